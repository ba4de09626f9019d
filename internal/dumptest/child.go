package dumptest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

// DumpChild starts the running test binary anew with one test and one more
// environment variable, dumps that process and searches the dump. ready reads
// what the child prints until it can be dumped and returns what to look for;
// the child ends when its standard input does. Where no dump can be taken the
// test is skipped.
func DumpChild(t *testing.T, name, test, env string, ready func(io.Reader) *Patterns) Found {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v")
	child.Env = append(os.Environ(), env)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	patterns := ready(stdout)
	core, err := Dump(t.Context(), child.Process.Pid, t.TempDir(), name)
	stdin.Close()
	_, _ = io.Copy(io.Discard, stdout)
	if err := child.Wait(); err != nil {
		t.Fatalf("child: %v", err)
	}
	if errors.Is(err, ErrNoRights) || errors.Is(err, exec.ErrNotFound) {
		t.Skipf("no dump can be taken here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := ScanCore(core, patterns)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
