//go:build linux

package hosts

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds the program as it is released, into a folder that goes with the
// test, and returns its path. version is what it says of itself, "" as it comes.
func Build(t testing.TB, version string) string {
	t.Helper()
	program, err := build(t.TempDir(), version)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func build(folder, version string) (string, error) {
	program := filepath.Join(folder, "cloakroom")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", program}
	if version != "" {
		args = append(args, "-ldflags", "-X cloakroom/node.stamp="+version)
	}
	cmd := exec.Command("go", append(args, "cloakroom/cmd/cloakroom")...)
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &buildError{err, string(out)}
	}
	return program, nil
}

type buildError struct {
	err error
	out string
}

func (b *buildError) Error() string { return "build the program: " + b.err.Error() + "\n" + b.out }
