//go:build linux

package hosts

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// programs are the builds of the program that tests run, made once.
var programs struct {
	sync.Mutex
	folder  string
	byStamp map[string]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.folder != "" {
		os.RemoveAll(programs.folder) //nolint:errcheck // it is temporary
	}
	os.Exit(code)
}

// program returns the program, built once for all tests.
func program(t testing.TB, version string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.folder == "" {
		folder, err := os.MkdirTemp("", "cloakroom-hosts-")
		if err != nil {
			t.Fatal(err)
		}
		programs.folder, programs.byStamp = folder, map[string]string{}
	}
	if path := programs.byStamp[version]; path != "" {
		return path
	}
	folder := fmt.Sprintf("%s/%d", programs.folder, len(programs.byStamp))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path, err := build(folder, version)
	if err != nil {
		t.Fatal(err)
	}
	programs.byStamp[version] = path
	return path
}
