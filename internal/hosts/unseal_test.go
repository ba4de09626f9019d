//go:build linux

package hosts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAllStandStillAndComeBack: three nodes are killed at once, so nobody has
// the keys any more. They come back sealed, say so, and are ready again after
// two custodians went to one of them; the other two get the keys from it.
func TestAllStandStillAndComeBack(t *testing.T) {
	t.Parallel()
	f := NewFleet(t, program(t, ""), nil)
	first := f.Found("n1", "--shares", "3", "--threshold", "2")
	f.Join(first, "n2", "n3")
	names := f.Names()
	for _, name := range names {
		f.Node(name).Process().Kill()
	}
	for _, name := range names {
		f.Node(name).Start("")
	}
	for _, name := range names {
		f.Node(name).Process().AwaitLine(t, "stage=sealed", patience)
	}
	at := f.Node("n2")
	give := func(i int) (out, complaint string, code int) {
		path := filepath.Join(f.Dir, "share")
		if err := os.WriteFile(path, []byte(f.Shares[i]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return f.Try(append([]string{"unseal", "--share-file", path}, at.At("operator")[:2]...)...)
	}
	// The custodian has met the cluster through n1 before; n2 shows its authority.
	if out, complaint, code := give(2); code != 0 || !strings.Contains(out, "Share 1 of 2 taken") {
		t.Errorf("first share: %d %s%s", code, out, complaint)
	}
	if _, complaint, code := give(2); code != 1 || !strings.Contains(complaint, "share 3 is here already") {
		t.Errorf("the same share: %d %s", code, complaint)
	}
	if out, complaint, code := give(0); code != 0 || !strings.Contains(out, "Unsealed") {
		t.Errorf("second share: %d %s%s", code, out, complaint)
	}
	for _, name := range names {
		f.Node(name).Process().AwaitLine(t, ready, patience)
	}
	for _, name := range names {
		for _, share := range f.Shares {
			if strings.Contains(f.Node(name).Process().Log(), share[len("cloakroom-share-1."):]) {
				t.Errorf("%s logs a share", name)
			}
		}
	}
	if out, complaint, code := give(1); code != 0 || !strings.Contains(out, "Unsealed") {
		t.Errorf("a share that nobody needs: %d %s%s", code, out, complaint)
	}
}
