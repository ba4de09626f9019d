//go:build linux

package securemem

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childVar names the function that a re-executed test binary runs.
const childVar = "SECUREMEM_TEST_CHILD"

// children are what a test runs in a process of its own, because it lowers
// limits, gives up rights, hardens or dies. Output "ok" is success.
func children() map[string]func() error {
	return map[string]func() error{
		"small limit":         childSmallLimit,
		"small limit, guard":  childSmallLimitMemguard,
		"tiny limit":          childTinyLimit,
		"exhausted limit":     childExhaustedLimit,
		"three in one":        childThreeInOne,
		"harden":              childHarden,
		"harden, memguard":    childHardenMemguard,
		"keys on the heap":    childKeysOnHeap,
		"planted key":         childPlantedKey,
		"wait with keys":      childWaitWithKeys,
		"wait with heap keys": childWaitWithHeapKeys,
	}
}

func TestMain(m *testing.M) {
	name := os.Getenv(childVar)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children()[name](); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
}

// childCommand prepares the test binary to run a child, as nobody if asked.
func childCommand(t *testing.T, name string, asNobody bool) *exec.Cmd {
	t.Helper()
	if children()[name] == nil {
		t.Fatalf("no child %q", name)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+name)
	if asNobody {
		if os.Getuid() != 0 {
			t.Skip("needs root, to give up its rights in a child")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return cmd
}

// runChild runs a child to its end.
func runChild(t *testing.T, name string, asNobody bool) {
	t.Helper()
	out, err := childCommand(t, name, asNobody).CombinedOutput()
	if err != nil {
		t.Fatalf("child %q: %v: %s", name, err, out)
	}
}

// wantText fails unless err holds all of texts.
func wantText(err error, texts ...string) error {
	if err == nil {
		return errors.New("got no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			return errors.New("error does not name " + text + ": " + err.Error())
		}
	}
	return nil
}
