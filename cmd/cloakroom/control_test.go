package main

import (
	"bufio"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startControlled runs dev with a socket of its own and returns its path.
func startControlled(t *testing.T, args ...string) (url, socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(shortFolder(t), "dev.sock")
	url, stop = startDev(t, append(args, "--token", "control-token", "--control", socket)...)
	return url, socket, stop
}

// shortFolder is a folder with a path short enough for a unix socket.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

func TestOrdersToALonelyNode(t *testing.T) {
	url, socket, stop := startControlled(t)
	defer stop()
	info, err := os.Stat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("socket: %v, %v", info.Mode(), err)
	}
	for _, test := range []struct {
		args, out, err string
		code           int
	}{
		{"list", "1 +alive +" + url, "", 0},
		{"list --json", `"state": "alive"`, "", 0},
		{"kill 2", "", "no such node: this dev process has the nodes 1 to 1", 2},
		{"kill x", "", "want the number", 2},
		{"kill", "", "want the number", 2},
		{"kill -1", "", "want the number", 2},
		{"kill 1 2", "", "want the number", 2},
		{"kill --hard 1", "", "unknown flag", 2},
		{"--nodes x", "", `"--nodes" flag: want 1 to 5`, 2},
		{"restart 1", "", "node 1 is alive already: kill ends it", 1},
		{"kill 1", "", "one node tolerates no loss", 3},
		{"kill --force 1", "node 1 is dead", "", 0},
		{"kill 1", "", "node 1 is dead already: restart brings it back", 1},
		{"restart 1", "", "stop dev and start it anew", 1},
		{"list", "1 +dead", "", 0},
	} {
		code, stdout, stderr := runHere("", append([]string{"dev", "--control", socket}, strings.Fields(test.args)...)...)
		if code != test.code || !matches(test.out, stdout) || !strings.Contains(stderr, test.err) {
			t.Errorf("dev %s: %d %q %q, want %d %q %q", test.args, code, stdout, stderr, test.code, test.out, test.err)
		}
	}
	if code, _, stderr := runHere("", "--addr", url, "status"); code != 1 || !strings.Contains(stderr, "no answer") {
		t.Errorf("a dead node answers: %d %s", code, stderr)
	}
}

// Whatever comes over the socket, dev goes on.
func TestOrdersThatAreNone(t *testing.T) {
	_, socket, stop := startControlled(t)
	defer stop()
	for _, text := range []string{"\n", "nonsense\n", `{"command":"sing"}` + "\n", `{"command":7}` + "\n", strings.Repeat("x", maxOrder+1) + "\n"} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, "not understood") {
			t.Errorf("%.20q: %s %v", text, line, err)
		}
		conn.Close()
	}
	silent, err := net.Dial("unix", socket) // ends with dev
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if code, _, stderr := runHere("", "dev", "--control", socket, "list"); code != 0 {
		t.Errorf("list: %s", stderr)
	}
}

func TestNobodyTakesOrders(t *testing.T) {
	folder := shortFolder(t)
	t.Setenv("XDG_RUNTIME_DIR", folder)
	code, _, stderr := runHere("", "dev", "kill", "2")
	if want := filepath.Join(folder, "cloakroom", "dev-8200.sock"); code != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "dev --nodes 3") {
		t.Errorf("nobody there: %d %s", code, stderr)
	}
	if code, _, stderr = runHere("", "--addr", "localhost", "dev", "list"); code != 2 || !strings.Contains(stderr, "--control") {
		t.Errorf("no port: %d %s", code, stderr)
	}
	// What a dev process left behind that was killed is replaced.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if code, _, stderr = runHere("", "dev", "--control", filepath.Join(folder, "s"), "list"); code != 1 || !strings.Contains(stderr, "no dev process") {
		t.Errorf("a stale socket: %d %s", code, stderr)
	}
	_, stop := startDev(t, "--token", "t", "--control", filepath.Join(folder, "s"))
	defer stop()
	if code, _, stderr = runHere("", "dev", "--control", filepath.Join(folder, "s"), "list"); code != 0 {
		t.Errorf("in the place of a stale socket: %s", stderr)
	}
	code, _, stderr = runHere("", "dev", "--listen", "127.0.0.1:0", "--token", "t", "--memory-limit", "64MiB", "--control", filepath.Join(folder, "s"))
	if code != 1 || !strings.Contains(stderr, "in use by another dev process") {
		t.Errorf("a second dev at one socket: %d %s", code, stderr)
	}
}

// The folder for temporary files is everybody's: another user may have been
// there first.
func TestAStrangersFolderIsNotUsed(t *testing.T) {
	temp := shortFolder(t)
	t.Setenv("XDG_RUNTIME_DIR", temp)
	folder := filepath.Join(temp, "cloakroom")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runHere("", "dev", "list"); code != 1 || !strings.Contains(stderr, "you alone") {
		t.Errorf("list: %d %s", code, stderr)
	}
	if err := ownFolder(folder); err == nil {
		t.Error("a folder that others can reach is used")
	}
}

// matches reports whether text holds the words of pattern, any space for " +".
func matches(pattern, text string) bool {
	return strings.Contains(strings.Join(strings.Fields(text), " "), strings.ReplaceAll(pattern, " +", " "))
}

// What stands at the path and is no socket stays as it was.
func TestControlSparesFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listenControl(path); err == nil {
		l.Close()
		t.Error("a file was replaced by the socket")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "keep me" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}
