package securemem

import (
	"fmt"

	"github.com/awnumar/memguard"
)

// mapMemguard maps one large LockedBuffer. The caller has checked the limit:
// inside memguard one failed mlock purges every secret of the process and
// panics.
func mapMemguard(purpose string, n int) (reg *region, err error) {
	defer func() {
		if recover() != nil { // its text names an address, nothing secret; errno is inside a string
			reg, err = nil, fmt.Errorf("map %d bytes for %s: memguard could not lock them", n, purpose)
		}
	}()
	buf := memguard.NewBuffer(n)
	if buf.Size() != n {
		return nil, fmt.Errorf("map %d bytes for %s: memguard gave %d", n, purpose, buf.Size())
	}
	if err := advise(buf.Bytes(), memguardPages); err != nil {
		buf.Destroy()
		return nil, fmt.Errorf("map %d bytes for %s: %w", n, purpose, err)
	}
	release := func() error { buf.Destroy(); return nil }
	return &region{mem: spanOf(buf.Bytes()), purpose: purpose, how: memguardPages, release: release}, nil
}
