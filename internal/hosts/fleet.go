//go:build linux

package hosts

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fleet is a cluster of processes, run as its users would: by configuration
// files, tokens in files and the command line.
type Fleet struct {
	t       testing.TB
	Program string // that nodes are started with from now on
	Dir     string
	More    string // lines for every configuration file written from now on

	Fingerprint string // of the founder
	founder     *Node
	Shares      []string // all that were made
	place       func(name string) Place
	console     Place // where the command line is used

	mu    sync.Mutex
	nodes map[string]*Node
}

// Node is one node of a fleet, running or not.
type Node struct {
	fleet *Fleet
	Name  string
	Place Place

	mu      sync.Mutex
	process *Process // the last one; nil: never run
	away    bool     // clients are not sent there
}

// SendAway has clients not be sent to the node any more, as a load balancer is
// told before a node is taken out.
func (n *Node) SendAway() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = true
}

// serves reports whether clients are sent to the node.
func (n *Node) serves() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.away && n.process != nil && n.process.printed(ready)
}

// NewFleet makes a fleet of nodes on loopback, or on hosts of a land, none of
// which runs yet.
func NewFleet(t testing.TB, program string, land *Land) *Fleet {
	t.Helper()
	f := &Fleet{t: t, Program: program, Dir: t.TempDir(), nodes: map[string]*Node{},
		place: func(string) Place { return Loopback(t) }, console: Loopback(t)}
	t.Cleanup(f.tell)
	if land != nil {
		f.place = func(name string) Place { return land.Host(name) }
		f.console = land.Host("console")
	}
	return f
}

// tell shows how the logs of the nodes end, if the test has failed.
func (f *Fleet) tell() {
	if !f.t.Failed() {
		return
	}
	for name, n := range f.nodes {
		if p := n.Process(); p != nil {
			lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
			f.t.Logf("the log of %s ends:\n%s", name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
		}
	}
}

// Node returns the node of that name. Its configuration file is written when it
// is asked for first.
func (f *Fleet) Node(name string) *Node {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[name]; n != nil {
		return n
	}
	n := &Node{fleet: f, Name: name, Place: f.place(name)}
	f.nodes[name] = n
	n.Configure("")
	return n
}

// Names lists the nodes that run, in order.
func (f *Fleet) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name, n := range f.nodes {
		if p := n.Process(); p != nil {
			if _, ended := p.Ended(); !ended {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Config and Data are the paths of the node's file and folder.
func (n *Node) Config() string { return filepath.Join(n.fleet.Dir, n.Name+".yaml") }
func (n *Node) Data() string   { return filepath.Join(n.fleet.Dir, n.Name) }

// Configure writes the configuration file, with more lines than usual.
func (n *Node) Configure(more string) {
	n.fleet.t.Helper()
	tls := ""
	if _, local := n.Place.(*loopback); !local {
		tls = ", tls: internal"
	}
	text := fmt.Sprintf("node: { name: %s, data: %s }\napi: { listen: %q%s }\noperator: { listen: %q }\ncluster: { listen: %q }\nrecovery: { mode: none }\n%s\n%s\n",
		n.Name, n.Name, n.Place.Address(API), tls, n.Place.Address(Operator), n.Place.Address(Cluster), n.fleet.More, more)
	if !strings.Contains(text, "memory:") {
		text += "memory: { limit: 64MiB }\n"
	}
	if err := os.WriteFile(n.Config(), []byte(text), 0o600); err != nil {
		n.fleet.t.Fatal(err)
	}
}

// Process returns the node's last process, nil if there was none.
func (n *Node) Process() *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Start runs the node and does not wait for it. joinToken is the path of a
// file, "" for none.
func (n *Node) Start(joinToken string) *Process {
	n.fleet.t.Helper()
	args := []string{"node", "run", "--config", n.Config()}
	if joinToken != "" {
		args = append(args, "--join-token-file", joinToken)
	}
	p := start(n.fleet.t, n.fleet.prepare(n.Place.Command(context.Background(), n.fleet.Program, args...)))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process = p
	return p
}

// ready is what a node prints when it answers.
const (
	ready    = "\noperator "
	patience = 60 * time.Second
)

// Run starts the node and waits until it is ready.
func (n *Node) Run(joinToken string) *Process {
	n.fleet.t.Helper()
	p := n.Start(joinToken)
	p.AwaitLine(n.fleet.t, ready, patience)
	return p
}

// URL is where the node's front door is.
func (n *Node) URL() string {
	if _, local := n.Place.(*loopback); local {
		return "http://" + n.Place.Address(API)
	}
	return "https://" + n.Place.Address(API)
}

// Ready returns nil if the node says that it answers requests.
func (n *Node) Ready(client *http.Client) error {
	resp, err := client.Get(n.URL() + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", n.Name, resp.StatusCode, body)
	}
	return err
}

// prepare gives a command the environment of a user who has nothing but the
// fleet's folder.
func (f *Fleet) prepare(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = f.Dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "CLOAKROOM_") || strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "GODEBUG=")
	})
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+filepath.Join(f.Dir, "settings"))
	return cmd
}

// Try runs the command line and returns what it said and its exit code.
func (f *Fleet) Try(args ...string) (stdout, stderr string, code int) { return f.feed("", args) }

// feed runs the command line with a standard input.
func (f *Fleet) feed(stdin string, args []string) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := f.prepare(f.console.Command(ctx, f.Program, args...))
	cmd.Stdin = strings.NewReader(stdin)
	return run(ctx, cmd)
}

// Do runs the command line, which must succeed, and returns what it printed.
func (f *Fleet) Do(args ...string) string {
	f.t.Helper()
	return f.Feed("", args...)
}

// Feed is Do with a standard input.
func (f *Fleet) Feed(stdin string, args ...string) string {
	f.t.Helper()
	stdout, stderr, code := f.feed(stdin, args)
	if code != 0 {
		f.t.Fatalf("cloakroom %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// At returns the flags with which an operator reaches a node: its side door and
// the token of a role, by the name of its file.
func (n *Node) At(role string) []string {
	at := []string{"--addr", n.Place.Address(Operator), "--token-file", n.fleet.token(role)}
	if n.fleet.founder == n {
		at = append(at, "--fingerprint", n.fleet.Fingerprint) // of the others the cluster's is known then
	}
	return at
}

func (f *Fleet) token(role string) string { return filepath.Join(f.Dir, role+".token") }

// Found makes the first node of a cluster of a single person, and runs it. more
// are further flags of init.
func (f *Fleet) Found(name string, more ...string) *Node {
	f.t.Helper()
	n := f.Node(name)
	var made struct {
		Fingerprint string
		Shares      []string
		Operator    string `json:"operator_token"`
		Access      string `json:"access_token"`
		Auditor     string `json:"auditor_token"`
	}
	out := f.Do(append([]string{"node", "init", "--config", n.Config(), "--single-person", "--print-secrets", "--json"}, more...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		f.t.Fatal(err)
	}
	f.founder, f.Fingerprint, f.Shares = n, made.Fingerprint, made.Shares
	for role, token := range map[string]string{"operator": made.Operator, "access": made.Access, "auditor": made.Auditor} {
		f.write(role, token)
	}
	n.Run("")
	return n
}

func (f *Fleet) write(role, token string) {
	f.t.Helper()
	if err := os.WriteFile(f.token(role), []byte(token+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// JoinToken has a node make a token to join with, and returns its file.
func (f *Fleet) JoinToken(at *Node, forName string) string {
	f.t.Helper()
	path := filepath.Join(f.Dir, fmt.Sprintf("%s-%d.join", forName, time.Now().UnixNano()))
	f.Do(append([]string{"join-token", "create", "--out", path}, at.At("operator")...)...)
	return path
}

// Join has new nodes taken in, at once, through one that runs.
func (f *Fleet) Join(at *Node, names ...string) {
	f.t.Helper()
	var started []*Process
	for _, name := range names {
		started = append(started, f.Node(name).Start(f.JoinToken(at, name)))
	}
	for _, p := range started {
		p.AwaitLine(f.t, ready, patience)
	}
}

// Principal makes a principal and returns its token.
func (f *Fleet) Principal(at *Node, name string, flags ...string) string {
	f.t.Helper()
	args := append([]string{"principals", "create", name}, flags...)
	token := strings.TrimSpace(f.Do(append(args, at.At("access")...)...))
	f.write(name, token)
	return token
}

// Client makes connections from where the fleet's clients are. The nodes'
// certificates are not looked at: who answers is what the tests find out by
// other means.
func (f *Fleet) Client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return f.console.Dial(ctx, network, addr)
		},
		MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
}
