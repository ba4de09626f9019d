package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloakroom": main})
}

// TestScripts runs the scripts in testdata against a real `cloakroom dev`,
// one each, in this process. $TOKEN is the file with its token.
func TestScripts(t *testing.T) {
	runScripts(t, "testdata/scripts", func(env *testscript.Env, token string) error {
		url, stop := startDev(t, "--token-file", token, "--people", "3", "--domain", "shop")
		env.Defer(stop)
		env.Setenv("CLOAKROOM_ADDR", url)
		return nil
	})
}

// TestOfflineScripts runs the scripts for what takes no server.
func TestOfflineScripts(t *testing.T) {
	runScripts(t, "testdata/offline", func(*testscript.Env, string) error { return nil })
}

// TestFleetScripts runs scripts against three nodes in a process of their own.
// $NODE1 to $NODE3 are their addresses.
func TestFleetScripts(t *testing.T) {
	runScripts(t, "testdata/fleet", func(env *testscript.Env, token string) error {
		p := startProcess(t, 3)
		for i, url := range p.urls {
			env.Setenv(fmt.Sprintf("NODE%d", i+1), url)
		}
		env.Setenv("CLOAKROOM_CONTROL", p.socket)
		return os.WriteFile(token, []byte(fleetToken), 0o600)
	})
}

func runScripts(t *testing.T, folder string, setup func(env *testscript.Env, token string) error) {
	testscript.Run(t, testscript.Params{
		Dir: folder,
		Setup: func(env *testscript.Env) error {
			token := filepath.Join(env.WorkDir, "token")
			if err := os.WriteFile(token, []byte("script-token\n"), 0o600); err != nil {
				return err
			}
			env.Setenv("CLOAKROOM_TOKEN_FILE", token)
			return setup(env, token)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"setid":    setID,
			"setindex": setIndex, "setcursor": setCursor,
			"exits": exits,
		},
	})
}

// exits runs a command and checks its exit code: exits CODE COMMAND [ARG…].
func exits(ts *testscript.TestScript, _ bool, args []string) {
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}

// setID puts the pseudonym of a key of a map into the variable $ID, or the
// pseudonym that was printed last: setid [MAP KEY].
func setID(ts *testscript.TestScript, _ bool, args []string) {
	text, prefix := ts.ReadFile("stdout"), ""
	if len(args) == 2 {
		text, prefix = ts.ReadFile(args[0]), args[1]+","
	}
	for line := range strings.Lines(text) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok && len(id) == 36 {
			ts.Setenv("ID", id)
			return
		}
	}
	ts.Fatalf("no pseudonym found")
}

// setIndex puts the index of what deposit --json printed last into $INDEX.
func setIndex(ts *testscript.TestScript, _ bool, _ []string) {
	var done struct{ Index string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &done))
	ts.Setenv("INDEX", done.Index)
}

// setCursor sets CURSOR to the one that the last command printed.
func setCursor(ts *testscript.TestScript, _ bool, _ []string) {
	_, cursor, found := strings.Cut(ts.ReadFile("stdout"), "cursor  ")
	if !found {
		ts.Fatalf("no cursor was printed")
	}
	ts.Setenv("CURSOR", strings.TrimSpace(cursor))
}

// startDev runs dev on a free port until stop, and waits for its ready line.
func startDev(t testing.TB, args ...string) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	a := &app{streams: streams{strings.NewReader(""), in, &stderr}, keepDumpable: true}
	root := a.root()
	root.SetArgs(append([]string{"dev", "--listen", "127.0.0.1:0", "--memory-limit", "1GiB"}, args...))
	ended := make(chan error, 1)
	go func() { // ends with cancel
		err := root.ExecuteContext(ctx)
		in.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		cancel()
		t.Fatalf("dev did not get ready: %v", <-ended)
	}
	url = strings.TrimPrefix(lines.Text(), "ready ")
	go io.Copy(io.Discard, out) // ends when dev does
	return url, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("dev: %v", err)
		}
	}
}

// runHere runs one command in this process.
func runHere(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, streams{strings.NewReader(stdin), &out, &err})
	return code, out.String(), err.String()
}

func TestDevWithTLS(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	url, stop := startDev(t, "--token", "s3cret-token", "--tls", "--ca-out", ca, "--people", "1")
	defer stop()
	code, stdout, stderr := runHere("s3cret-token\n", "--addr", url, "--cacert", ca, "--token-file", "-", "schema", "show")
	if code != 0 || !strings.Contains(stdout, "display_name") {
		t.Errorf("with the certificate: %d %s %s", code, stdout, stderr)
	}
	code, _, stderr = runHere("s3cret-token\n", "--addr", url, "--token-file", "-", "schema", "show")
	if code != 1 || !strings.Contains(stderr, "CA certificate") || strings.Contains(stderr, "s3cret") {
		t.Errorf("without: %d %s", code, stderr)
	}
}

func TestDevRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"--nodes 0", 2, "want 1 to 5"},
		{"--nodes 6", 2, "want 1 to 5"},
		{"--nodes 3 --listen 127.0.0.1:65534", 2, "a port from 0 to 65533"},
		{"--listen 127.0.0.1:port", 2, "want a port"},
		{"--control /nonexistent/socket --listen 127.0.0.1:0", 1, "another place: --control"},
		{"--listen 0.0.0.0:8200", 2, "add --tls"},
		{"--listen nonsense", 2, "want HOST:PORT"},
		{"--memory-limit 4", 2, "such as 512MiB"},
		{"--memory-lock maybe", 2, "auto"},
		{"--people -1", 2, "negative"},
		{"--token caf\u00e9", 2, "--token"},
		{"--token-file /nonexistent", 1, "read token"},
		{"--listen " + taken.Addr().String(), 1, "another address"},
		{"extra", 2, "unknown command"},
		{"--what", 2, "unknown flag"},
	} {
		code, _, stderr := runHere("", append([]string{"dev"}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(stderr, test.want) {
			t.Errorf("dev %s: %d %s, want %d and %q", test.args, code, stderr, test.code, test.want)
		}
	}
}
