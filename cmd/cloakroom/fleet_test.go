package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/client"
)

const fleetToken = "fleet-token"

// devProcess is `cloakroom dev` as a process of its own, as a user starts it.
type devProcess struct {
	urls   []string // of the nodes
	socket string
}

// startProcess runs dev with that many nodes until the test ends.
func startProcess(t *testing.T, nodes int) *devProcess {
	t.Helper()
	program, err := exec.LookPath("cloakroom") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	folder := shortFolder(t)
	p := &devProcess{socket: filepath.Join(folder, "dev.sock")}
	token := filepath.Join(folder, "token")
	if err := os.WriteFile(token, []byte(fleetToken), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := exec.Command(program, "--token-file", token, "dev", "--nodes", fmt.Sprint(nodes),
		"--listen", "127.0.0.1:0", "--memory-limit", "1GiB", "--control", p.socket)
	var stderr lockedText
	dev.Stderr = &stderr
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		began := time.Now()
		_ = dev.Process.Signal(os.Interrupt)
		if err := dev.Wait(); err != nil {
			t.Errorf("dev ended: %v\n%s", err, stderr.String())
		}
		t.Logf("dev ended within %v", time.Since(began).Round(time.Millisecond))
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if url, is := strings.CutPrefix(line, "ready "); is {
			p.urls = append(p.urls, url)
		}
		if strings.HasPrefix(line, "node ") {
			p.urls = append(p.urls, strings.Fields(line)[2])
		}
		if strings.Contains(line, "curl") {
			break
		}
	}
	t.Logf("dev was ready after %v", time.Since(began).Round(time.Millisecond))
	if len(p.urls) != nodes {
		t.Fatalf("dev said ready for %d of %d nodes\n%s", len(p.urls), nodes, stderr.String())
	}
	return p
}

// lockedText takes what a process says while a test may look at it.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// order gives an order and fails the test if it fails.
func (p *devProcess) order(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := runHere("", append([]string{"dev", "--control", p.socket}, args...)...)
	if code != 0 {
		t.Fatalf("dev %v: %d %s", args, code, stderr)
	}
	return stdout
}

// clients returns one client for each node; none of them tries again by itself.
func (p *devProcess) clients(t *testing.T) (list []*client.Client) {
	t.Helper()
	token, err := client.NewToken([]byte(fleetToken))
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range p.urls {
		c, err := client.New(client.Config{Addr: url, Token: token, Retries: -1, Timeout: 15 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		list = append(list, c)
	}
	return list
}

// depositors deposit people under keys of their own, each at any node, and
// at the next one again until a node says that it was done.
type depositors struct {
	clients []*client.Client
	seed    uint64
	working sync.WaitGroup
	acked   atomic.Int64
	refused atomic.Int64 // attempts that were not acknowledged

	mu    sync.Mutex
	names map[cloakroom.Pseudonym]string // of all acknowledged
	fault error
}

func (d *depositors) work(ctx context.Context, worker int) {
	random := rand.New(rand.NewPCG(d.seed, uint64(worker)))
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("Person %d of worker %d", i, worker)
		id, err := d.deposit(random, name, fmt.Sprintf("key-%d-%d", worker, i))
		d.mu.Lock()
		if other, there := d.names[id]; err == nil && there {
			err = fmt.Errorf("%q and %q got one pseudonym", name, other)
		}
		if err != nil {
			d.fault = err
			d.mu.Unlock()
			return
		}
		d.names[id] = name
		d.mu.Unlock()
		d.acked.Add(1)
	}
}

// deposit goes on until the deposit is acknowledged, whatever else happens.
func (d *depositors) deposit(random *rand.Rand, name, key string) (cloakroom.Pseudonym, error) {
	until := time.Now().Add(time.Minute)
	for at := random.IntN(len(d.clients)); ; at++ {
		done, err := d.clients[at%len(d.clients)].Deposit(context.Background(), client.Subject{
			Fields: client.Fields{"display_name": client.Text(name)}, IdempotencyKey: key,
		})
		if err == nil {
			return done.ID, nil
		}
		d.refused.Add(1)
		var unreachable *client.UnreachableError
		for _, expected := range []error{cloakroom.ErrUnavailable, cloakroom.ErrOutcomeUnknown, cloakroom.ErrOverloaded, cloakroom.ErrStarting} {
			if errors.Is(err, expected) {
				err = nil
			}
		}
		if err != nil && !errors.As(err, &unreachable) {
			return done.ID, fmt.Errorf("deposit: %w", err)
		}
		if time.Now().After(until) {
			return done.ID, errors.New("a deposit was not done within a minute")
		}
	}
}

// await waits until so many more deposits are acknowledged.
func (d *depositors) await(t *testing.T, more int64) {
	t.Helper()
	want := d.acked.Load() + more
	until(t, fmt.Sprintf("%d deposits are acknowledged", want), func() bool { return d.acked.Load() >= want })
}

func until(t *testing.T, what string, ask func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ask() {
		if pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// TestNoAcknowledgedDepositIsLost kills and restarts every node in turn while
// all of them are deposited into, and then asks every node for everybody.
func TestNoAcknowledgedDepositIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("runs three nodes under load")
	}
	const nodes, workers = 3, 8
	p := startProcess(t, nodes)
	d := &depositors{clients: p.clients(t), seed: rand.Uint64(), names: map[cloakroom.Pseudonym]string{}}
	t.Logf("seed %d", d.seed)
	ctx, stop := context.WithCancel(t.Context())
	for w := range workers {
		d.working.Go(func() { d.work(ctx, w) }) // ends with stop
	}
	for n := 1; n <= nodes; n++ {
		d.await(t, 500)
		p.order(t, "kill", fmt.Sprint(n))
		began := time.Now()
		d.await(t, 500)
		t.Logf("node %d dead: 500 more deposits after %v", n, time.Since(began).Round(time.Millisecond))
		t.Log(strings.TrimSpace(p.order(t, "restart", fmt.Sprint(n))))
	}
	d.await(t, 500)
	stop()
	d.working.Wait()
	if d.fault != nil {
		t.Fatal(d.fault)
	}
	t.Logf("%d deposits acknowledged, %d attempts were not", len(d.names), d.refused.Load())
	for i, c := range d.clients {
		holdsAll(t, i+1, c, d.names)
	}
}

// holdsAll asks a node for everybody, and for how many there are: a deposit
// that was tried several times must be there once.
func holdsAll(t *testing.T, n int, c *client.Client, names map[cloakroom.Pseudonym]string) {
	t.Helper()
	ids := make([]cloakroom.Pseudonym, 0, len(names))
	for id := range names {
		ids = append(ids, id)
	}
	found, err := c.Resolve(t.Context(), ids, client.Query{Fields: []string{"display_name"}, Level: cloakroom.Linearizable})
	if err != nil {
		t.Fatalf("node %d: %v", n, err)
	}
	lost := 0
	for id, name := range names {
		if v := found.Subjects[id]["display_name"]; v.Text() != name {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("node %d: %d of %d acknowledged deposits are lost", n, lost, len(names))
	}
	document, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Subjects int }
	if err := json.Unmarshal(document, &status); err != nil || status.Subjects != len(names) {
		t.Errorf("node %d: %d subjects, want %d (%v)", n, status.Subjects, len(names), err)
	}
}
