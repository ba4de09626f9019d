package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloakroom/node"
	"cloakroom/node/folder"
)

// foundation is a node that was made and not run yet.
type foundation struct {
	folder, config, fingerprint string
	operator, api, cluster      string // addresses
	tokens                      map[string]string
}

// found makes the folder of a single-person cluster and its configuration.
func found(t *testing.T, more string) *foundation {
	t.Helper()
	f := &foundation{folder: t.TempDir(), tokens: map[string]string{}}
	f.config, f.operator, f.api = filepath.Join(f.folder, "n1.yaml"), freePort(t), freePort(t)
	made, err := node.Init(node.InitConfig{Folder: filepath.Join(f.folder, "data"), Name: "n1", SinglePerson: true})
	if err != nil {
		t.Fatal(err)
	}
	f.fingerprint = made.Fingerprint
	for _, token := range made.Tokens {
		name := filepath.Join(f.folder, token.Principal+".token")
		token.Token.Use(func(text []byte) { err = os.WriteFile(name, text, 0o600) })
		if err != nil {
			t.Fatal(err)
		}
		f.tokens[token.Principal] = name
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	f.write(t, more)
	return f
}

func (f *foundation) write(t *testing.T, more string) {
	t.Helper()
	f.cluster = freePort(t)
	f.rewrite(t, "memory: { limit: 64MiB }\n"+more)
}

func (f *foundation) rewrite(t *testing.T, more string) {
	t.Helper()
	text := fmt.Sprintf("node: { name: n1, data: data }\napi: { listen: %s }\noperator: { listen: %s }\ncluster: { listen: %s }\nrecovery: { mode: none }\n%s",
		f.api, f.operator, f.cluster, more)
	if err := os.WriteFile(f.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freePort returns an address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// logged is a log that can be read while somebody writes it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs the node in this process, as `node run` does, until stop.
func (f *foundation) start(t *testing.T) (log *logged, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	log = &logged{}
	a := &app{streams: streams{strings.NewReader(""), in, log}, keepDumpable: true}
	root := a.root()
	root.SetArgs([]string{"node", "run", "--config", f.config})
	ended := make(chan int, 1)
	go func() { // ends with cancel
		code := a.report(root.ExecuteContext(ctx))
		in.Close()
		ended <- code
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ready ") {
		cancel()
		t.Fatalf("not ready, code %d: %s", <-ended, log)
	}
	go io.Copy(io.Discard, out) // ends when the node does
	var once sync.Once
	code := 0
	stop = func() int {
		once.Do(func() { cancel(); code = <-ended })
		return code
	}
	t.Cleanup(func() { stop() })
	return log, stop
}

func TestNodeRun(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	f := found(t, "log: { format: json }\n")
	log, stop := f.start(t)

	operator := []string{"--addr", f.operator, "--token-file", f.tokens["operator"]}
	ask := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := runHere("", append(args, operator...)...)
		if got != code || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v: %d %s%s, want %d and %q", args, got, stdout, stderr, code, want)
		}
	}
	ask(0, "n1 (this one)", "status") // whoever runs a node knows it
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	ask(1, "is not known yet: it shows the fingerprint "+f.fingerprint, "status")
	ask(0, "single person", "status", "--fingerprint", f.fingerprint)
	ask(0, "n1 (this one)", "status")
	ask(0, "directory", "shards", "list")
	// Every role may do its own and no more.
	operator[3] = f.tokens["access"]
	ask(1, "Your grant does not cover this", "shards", "list")
	resp, err := http.Get("http://" + f.api + "/readyz")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("front door: %v %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}

	if code := stop(); code != 0 {
		t.Errorf("stopped with %d: %s", code, log)
	}
	for _, want := range []string{`"msg":"node started"`, `"msg":"node ready"`, `"msg":"node stopped"`, f.fingerprint} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	trail, err := os.ReadFile(filepath.Join(f.folder, "data", "audit.log"))
	if err != nil || !bytes.Contains(trail, []byte(`"principal":"access","action":"status"`)) {
		t.Errorf("the audit log lacks the refusal: %s %v", trail, err)
	}
}

// SIGHUP takes over what it can, says what it can't, and a file with a fault
// changes nothing.
func TestHangup(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	f := found(t, "")
	log, _ := f.start(t)
	hangup := func(want string) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), want); <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("the log lacks %q:\n%s", want, log)
			}
		}
	}
	f.rewrite(t, "log: { level: debug }\nlimits: { requests: 7 }\nmemory: { limit: 128MiB }\n")
	hangup(`msg="configuration read again" taken_over="limits.requests, log.level"`)
	hangup(`msg="configuration changes that take a restart" keys=memory.limit`)
	f.rewrite(t, "log: { level: loud }\nmemory: { limit: 64MiB }\n")
	hangup(`msg="configuration fault"`)
	hangup("log.level: want debug, info, warn or error")
}

// Two processes on one folder: the second says so and touches nothing.
func TestTwoProcessesOnOneFolder(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	f := found(t, "")
	f.start(t)
	a := &app{streams: streams{strings.NewReader(""), io.Discard, &logged{}}, keepDumpable: true}
	root := a.root()
	root.SetArgs([]string{"node", "run", "--config", f.config})
	if err := root.Execute(); !errors.Is(err, folder.ErrTaken) {
		t.Errorf("got %v", err)
	}
}
