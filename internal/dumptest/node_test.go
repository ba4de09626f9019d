package dumptest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom/bench/server"
	"cloakroom/internal/people"
)

var (
	keepCores = flag.String("keep-cores", "", "folder to keep core files in")
	showFinds = flag.Int("show-finds", 3, "places of each kind to show the memory around")
)

// nodeProgram is the package of the program that is dumped.
const nodeProgram = "cloakroom/cmd/cloakroom"

// buildNode builds the program with the hooks of this test, as it is released
// otherwise.
func buildNode(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "cloakroom")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "dumptest", "-trimpath", "-o", program, nodeProgram)
	build.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build node: %v\n%s", err, out)
	}
	return program
}

// devNode is a dev process under test, of one node or several.
type devNode struct {
	*server.Server
	program string
	socket  string   // for orders; of several nodes only
	urls    []string // of its nodes
	turn    atomic.Uint64
	client  *http.Client
	log     *lockedBuffer // key log of its TLS connections
	ask     *os.File
	told    *bufio.Reader
}

// url is that of one node after the other.
func (n *devNode) url() string { return n.urls[n.turn.Add(1)%uint64(len(n.urls))] }

const devToken = "dump-test-token"

// nodeMode says how the process runs.
type nodeMode struct {
	tls   bool
	nodes int    // 0: one
	leak  string // "", "names" or "keys"
}

// rounds is how often the process is dumped in all phases but the first. One of
// several nodes is large, and stands still for long.
func (m nodeMode) rounds(n int) int {
	if m.nodes > 1 {
		return 0
	}
	return n
}

func startNode(t *testing.T, program string, mode nodeMode) *devNode {
	t.Helper()
	askRead, askWrite := pipe(t)
	tellRead, tellWrite := pipe(t)
	mode.nodes = max(mode.nodes, 1)
	addrs := freeAddrs(t, mode.nodes)
	args := []string{program, "dev", "--listen", addrs[0], "--token", devToken, "--people", "0", "--nodes", strconv.Itoa(mode.nodes), "--dump-test-keys"}
	n := &devNode{program: program, log: new(lockedBuffer), ask: askWrite, told: bufio.NewReader(tellRead)}
	scheme := "http"
	if mode.tls {
		args, scheme = append(args, "--tls", "--ca-out", filepath.Join(t.TempDir(), "ca.pem")), "https"
	}
	if mode.leak != "" {
		args = append(args, "--dump-test-leak", mode.leak)
	}
	if mode.nodes > 1 {
		n.socket = filepath.Join(t.TempDir(), "s")
		args = append(args, "--control", n.socket)
	}
	for _, addr := range addrs {
		n.urls = append(n.urls, scheme+"://"+addr)
	}
	child, err := server.Start(t.Context(), server.Config{Name: "node", Command: args, Addr: addrs[0], Files: []*os.File{askRead, tellWrite}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Stop)
	askRead.Close()
	tellWrite.Close()
	// The certificate is the node's own, made a moment ago, on loopback.
	transport := &http.Transport{MaxIdleConnsPerHost: loadWorkers, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, KeyLogWriter: n.log}}
	n.Server, n.client = child, &http.Client{Transport: transport, Timeout: time.Minute}
	return n
}

// freeAddrs returns addresses with ports in a row that were free just now.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	for {
		first, err := server.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		host, text, _ := net.SplitHostPort(first)
		port, _ := strconv.Atoi(text)
		addrs := []string{first}
		for i := 1; i < n && port+i < 1<<16; i++ {
			addr := net.JoinHostPort(host, strconv.Itoa(port+i))
			door, err := net.Listen("tcp", addr)
			if err != nil {
				break
			}
			door.Close()
			addrs = append(addrs, addr)
		}
		if len(addrs) == n {
			return addrs
		}
	}
}

// order gives an order to a process of several nodes.
func (n *devNode) order(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), n.program, append([]string{"dev", "--control", n.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dev %v: %v: %s", args, err, out)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// keys asks the node for all raw keys it has by now.
func (n *devNode) keys(t *testing.T) []Key {
	t.Helper()
	if _, err := io.WriteString(n.ask, "keys\n"); err != nil {
		t.Fatal(err)
	}
	var keys []Key
	seen := map[string]bool{}
	for {
		line, err := n.told.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "end\n" {
			break
		}
		text, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if seen[text] { // nodes of a cluster have most of their keys in common
			continue
		}
		seen[text] = true
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = ^b[i]
		}
		keys = append(keys, Key{name, b})
	}
	if len(keys) < 8 {
		t.Fatalf("the node told of %d keys", len(keys))
	}
	return keys
}

// lockedBuffer takes key log lines from many connections.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) keys(t *testing.T) [][]byte {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	keys, err := TLSKeys(bytes.NewReader(b.buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

const (
	loadWorkers = 16
	// stored is how many people a node holds before the load begins.
	stored = 50_000
	// deposited bounds the further people that the load deposits; all of
	// them are searched for.
	deposited = 100_000
	// leftovers is from where on people come who are refused.
	leftovers = stored + deposited
	refusals  = 20_000
)

// searched returns the patterns for everybody who may have been in the node,
// and its keys.
func searched(crowd *people.People, keys []Key) *Patterns {
	p := new(Patterns)
	names := p.Class("names", Window)
	for i := range uint64(leftovers + refusals) {
		p.Add(names, crowd.Infix(i))
	}
	AddForms(p, "names", crowd.Marker())
	AddKeys(p, keys)
	return p
}

// verdict is what the dumps of one node held.
type verdict struct {
	memory  []string // findings that break the promise
	flight  []string // names while requests were under way
	bodies  int      // how many names those are
	strange [][]byte // AES keys that are neither ours nor of TLS
}

// When a dump is taken.
const (
	underReads = "under reads"
	underAll   = "under all requests"
	afterLoad  = "after load"
)

// oneBody is how many names the 4 KiB of net/http's buffer can hold.
const oneBody = 100

// inFlight says whether a name found at that moment may belong to somebody who
// is being written about: net/http holds the first 4 KiB of a body until it
// has all come, some microseconds unless the client is slow, and a dump may
// catch one.
func inFlight(c Count, when string) bool {
	return strings.HasPrefix(c.Class, "names") && strings.HasPrefix(when, underAll)
}

// dumpUnderLoad dumps a node so many times while it is read from, while it
// gets requests of all kinds, and while it is read from again, then once more
// when all is done.
func dumpUnderLoad(t *testing.T, program string, mode nodeMode, rounds int) (v verdict) {
	t.Helper()
	node := startNode(t, program, mode)
	crowd, err := people.New(people.Config{Seed: 77, Marked: true})
	if err != nil {
		t.Fatal(err)
	}
	storeCrowd(t, node, crowd)
	if mode.nodes > 1 { // keys pass from node to node, and the state as a snapshot
		node.order(t, "kill", "1")
		node.order(t, "restart", "1")
	}
	for _, phase := range []struct {
		when   string
		kinds  []kind
		rounds int
	}{{underReads, readKinds, rounds}, {underAll, allKinds, mode.rounds(rounds)}, {underReads + " again", readKinds, mode.rounds(rounds)}} {
		ctx, stop := context.WithCancel(t.Context())
		load := startLoad(ctx, node, crowd, phase.kinds)
		for round := range phase.rounds {
			load.await(t, 1000)
			v.judge(t, node, crowd, fmt.Sprintf("%s %d", phase.when, round+1))
		}
		load.await(t, 1000)
		stop()
		t.Logf("%s: %v", phase.when, load.wait(t))
	}
	node.client.CloseIdleConnections()
	v.judge(t, node, crowd, afterLoad)
	return v
}

// judge takes one dump and adds what it holds.
func (v *verdict) judge(t *testing.T, node *devNode, crowd *people.People, when string) {
	t.Helper()
	core := dumpOrSkip(t, node.PID(), "node")
	defer func() {
		if *keepCores == "" {
			os.Remove(core)
		} else if err := os.Rename(core, filepath.Join(*keepCores, strings.ReplaceAll(when, " ", "-"))); err != nil {
			t.Error(err)
		}
	}()
	keys := node.keys(t)
	found, err := ScanCore(core, searched(crowd, keys))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d MiB in %d segments, %d keys searched for; memory: %v; registers of %d threads: %v",
		when, found.MemoryBytes>>20, found.Segments, len(keys), found.Memory, found.Threads, found.Registers)
	for _, c := range found.Memory {
		if finding := when + ": " + c.String(); inFlight(c, when) {
			v.flight = append(v.flight, finding)
			v.bodies += c.Runs
		} else {
			v.memory = append(v.memory, finding)
		}
		for _, place := range c.Places[:min(len(c.Places), *showFinds)] {
			around, err := Around(core, place.Addr, 128)
			t.Logf("%s: %s: %d bytes at %s, %v", when, c.Class, place.Bytes, around, err)
		}
	}
	v.judgeSchedules(t, node, core, when)
}

// judgeSchedules looks for AES keys whoever made them. Keys of TLS connections
// are not defended, and AES-128 is nothing but TLS (tickets): ours are AES-256.
func (v *verdict) judgeSchedules(t *testing.T, node *devNode, core, when string) {
	t.Helper()
	keys, err := FindSchedules(core)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("aeskeyfind"); err == nil && when == afterLoad {
		memory := filepath.Join(t.TempDir(), "memory")
		if err := Condense(core, memory); err != nil {
			t.Fatal(err)
		}
		more, err := FindAESKeys(t.Context(), memory)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("aeskeyfind: %d keys", len(more))
		keys = append(keys, more...)
	}
	ofTLS, tickets := node.log.keys(t), 0
	for _, key := range keys {
		switch {
		case slices.ContainsFunc(ofTLS, func(k []byte) bool { return bytes.Equal(k, key) }):
		case len(key) == 16 && (node.socket != "" || strings.HasPrefix(node.urls[0], "https")):
			tickets++
		default:
			v.strange = append(v.strange, key)
		}
	}
	t.Logf("%s: %d key schedules, %d TLS keys known, %d other AES-128 keys", when, len(keys), len(ofTLS), tickets)
}

func requireNodeDump(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a node and dumps it several times")
	}
	requireDump(t)
}

// TestNodeKeepsItsPromise: no name and no key in any dump, over HTTP and TLS, of
// one node and of three in one process, one of which died and came back.
func TestNodeKeepsItsPromise(t *testing.T) {
	requireNodeDump(t)
	program := buildNode(t)
	for name, mode := range map[string]nodeMode{"http": {}, "tls": {tls: true}, "three nodes": {nodes: 3}} {
		t.Run(name, func(t *testing.T) {
			v := dumpUnderLoad(t, program, mode, 1)
			for _, finding := range v.memory {
				t.Error(finding)
			}
			t.Logf("under way: %v", v.flight)
			if v.bodies > oneBody {
				t.Errorf("%d names while bodies came in, more than one body holds", v.bodies)
			}
			if len(v.strange) > 0 {
				t.Errorf("%d AES keys that are not of TLS", len(v.strange))
			}
		})
	}
}

// TestLeakyNodeIsFound breaks the promise on purpose and wants it noticed: the
// test above must be able to fail.
func TestLeakyNodeIsFound(t *testing.T) {
	requireNodeDump(t)
	program := buildNode(t)
	t.Run("names", func(t *testing.T) {
		v := dumpUnderLoad(t, program, nodeMode{leak: "names"}, 0)
		if !slices.ContainsFunc(v.memory, func(f string) bool { return strings.Contains(f, "names") }) {
			t.Errorf("found no name in a node that makes strings of them: %v", v.memory)
		}
	})
	t.Run("keys", func(t *testing.T) {
		v := dumpUnderLoad(t, program, nodeMode{leak: "keys"}, 0)
		for _, class := range []string{"raw key", "AES round key"} {
			if !slices.ContainsFunc(v.memory, func(f string) bool { return strings.Contains(f, class) }) {
				t.Errorf("found no %s in a node that copies its keys: %v", class, v.memory)
			}
		}
		if len(v.strange) == 0 {
			t.Error("found no key schedule in a node that makes them on the heap")
		}
	})
}

// TestRedisHoldsEveryName counts the same people in a dump of Redis, for the
// record.
func TestRedisHoldsEveryName(t *testing.T) {
	requireNodeDump(t)
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server on this machine")
	}
	addr, err := server.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	child, err := server.Start(t.Context(), server.Config{Name: "redis", Addr: addr,
		Command: []string{redis, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Stop)
	crowd, err := people.New(people.Config{Seed: 77, Marked: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := storeInRedis(t.Context(), addr, crowd, stored); err != nil {
		t.Fatal(err)
	}
	core := dumpOrSkip(t, child.PID(), "redis")
	found, err := ScanCore(core, searched(crowd, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Redis with %d people: %v", stored, found.Memory)
	if len(found.Memory) == 0 || found.Memory[0].Runs < stored {
		t.Errorf("got %v, want every one of %d names", found.Memory, stored)
	}
}
