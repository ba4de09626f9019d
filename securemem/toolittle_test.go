package securemem

import (
	"strings"
	"testing"
)

// What one of several nodes may lock is its share: the message must not pass
// that off as the limit.
func TestAShareIsNotTheLimit(t *testing.T) {
	alone, one := tooLittle(1<<20, 2<<20, 1, "keys").Error(), tooLittle(1<<20, 2<<20, 3, "keys").Error()
	if strings.Contains(alone, "node") {
		t.Error(alone)
	}
	if !strings.Contains(one, "leaves 1024 KiB for each of 3 nodes to lock, keys of one of them need 2048 KiB") {
		t.Error(one)
	}
}
