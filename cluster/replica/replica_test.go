package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"cloakroom"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory hands out log memory and counts it.
type memory struct {
	mu          sync.Mutex
	mapped, top int
	refuse      atomic.Bool
}

func (m *memory) Map(n int) ([]byte, error) {
	if m.refuse.Load() {
		return nil, errors.New("no memory")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mapped += n
	m.top = max(m.top, m.mapped)
	return make([]byte, n), nil
}

func (m *memory) Unmap(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mapped -= len(b)
	clear(b)
}

func (m *memory) now() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mapped
}

// summer is a machine that counts and sums the bytes it applies.
type summer struct {
	mu      sync.Mutex
	applied []uint64
	sum     uint64
	fail    atomic.Bool
}

func (s *summer) Apply(index uint64, data []byte) (any, error) {
	if s.fail.Load() {
		return nil, errors.New("allocation failed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range data {
		s.sum += uint64(b)
	}
	s.applied = append(s.applied, index)
	return s.sum, nil
}

func (s *summer) Snapshot() (View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sumView(s.sum), nil
}

func (s *summer) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil || len(b) != 8 {
		return fmt.Errorf("restore sum: %d bytes, %w", len(b), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = binary.BigEndian.Uint64(b)
	return nil
}

type sumView uint64

func (v sumView) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(binary.BigEndian.AppendUint64(nil, uint64(v)))
	return int64(n), err
}

func (sumView) Release() {}

// open starts a replica that leads, and closes it with the test.
func open(t testing.TB, change func(*Config)) (*Replica, *summer, *memory) {
	t.Helper()
	mem, machine := &memory{}, &summer{}
	self := Identity{ID: "r-" + t.Name(), Addr: "at-" + t.Name()}
	cfg := Config{Group: "test", Generation: 1, Identity: self, Found: true,
		Machine: machine, MapLog: mem.Map, UnmapLog: mem.Unmap, LogBudget: 1 << 20}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		r.Close()
		if mem.mapped != 0 {
			t.Errorf("%d bytes of log memory not given back", mem.mapped)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.AwaitLead(ctx); err != nil {
		t.Fatalf("AwaitLead: %v", err)
	}
	return r, machine, mem
}

func mustApply(t testing.TB, r *Replica, data []byte) (uint64, any) {
	t.Helper()
	if err := r.AwaitRoom(context.Background()); err != nil {
		t.Fatalf("AwaitRoom: %v", err)
	}
	index, result, err := r.Apply(data)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return index, result
}

func TestApplyAnswersWithTheMachinesResult(t *testing.T) {
	r, machine, _ := open(t, nil)
	first, got := mustApply(t, r, []byte{1, 2})
	if got != uint64(3) {
		t.Fatalf("first result: got %v, want 3", got)
	}
	second, got := mustApply(t, r, []byte{4})
	if got != uint64(7) || second != first+1 {
		t.Fatalf("second: got %v at %d, want 7 at %d", got, second, first+1)
	}
	if len(machine.applied) != 2 || machine.applied[1] != second {
		t.Fatalf("applied: got %v, want both indexes", machine.applied)
	}
	if err := r.AwaitApplied(context.Background(), second); err != nil {
		t.Fatalf("AwaitApplied: %v", err)
	}
}

// A new group of one must not wait for a heartbeat timeout: seventeen of them
// start with a node.
func TestLeadsWithoutWaitingForATimeout(t *testing.T) {
	var r *Replica
	best := time.Hour
	for range 10 { // a busy machine may delay some of the starts, a timeout delays all
		begin := time.Now()
		r, _, _ = open(t, nil)
		if best = min(best, time.Since(begin)); best <= 250*time.Millisecond {
			break
		}
	}
	if best > 250*time.Millisecond {
		t.Fatalf("led after %v at best, want far less than the 500 ms timeout", best)
	}
	if got := r.raft.ReloadableConfig().HeartbeatTimeout; got != time.Second {
		t.Fatalf("heartbeat timeout of a leader: got %v, want 1 s", got)
	}
}

func TestLogStaysWithinItsBudget(t *testing.T) {
	r, machine, mem := open(t, nil)
	entry := bytes.Repeat([]byte{1}, 60<<10)
	const entries = 1000 // 60 MB through a budget of 1 MiB
	for range entries {
		mustApply(t, r, entry)
	}
	if got, want := machine.sum, uint64(entries*len(entry)); got != want {
		t.Fatalf("sum: got %d, want %d", got, want)
	}
	if limit := 1<<20 + 1<<19; mem.top > limit {
		t.Fatalf("log memory: got %d at the top, want at most %d", mem.top, limit)
	}
	if s := r.Status(); s.Compactions == 0 || s.LogBytes > s.LogBudget {
		t.Fatalf("status: %+v", s)
	}
}

// An entry above the budget travels alone and must not wedge the log.
func TestEntryAboveTheBudget(t *testing.T) {
	r, _, mem := open(t, func(c *Config) { c.LogBudget = 64 << 10 })
	for range 5 {
		mustApply(t, r, make([]byte, 100<<10))
		mustApply(t, r, []byte{1})
	}
	if mem.top > 512<<10 {
		t.Fatalf("log memory: got %d at the top", mem.top)
	}
}

// faulty is a log store that breaks on command.
type faulty struct {
	raft.LogStore
	panics, errs, getPanics atomic.Bool
}

func (f *faulty) StoreLogs(logs []*raft.Log) error {
	if f.panics.Load() {
		panic("disk gone")
	}
	if f.errs.Load() {
		return errors.New("disk gone")
	}
	return f.LogStore.StoreLogs(logs)
}

func (f *faulty) GetLog(index uint64, log *raft.Log) error {
	if f.getPanics.Load() {
		panic("page gone")
	}
	return f.LogStore.GetLog(index, log)
}

func TestBrokenLogParksTheReplicaAndNothingElse(t *testing.T) {
	breaks := map[string]func(*faulty){
		"panic": func(f *faulty) { f.panics.Store(true) },
		"error": func(f *faulty) { f.errs.Store(true) },
	}
	for name, breakIt := range breaks {
		t.Run(name, func(t *testing.T) {
			var store *faulty
			broken, _, _ := open(t, func(c *Config) {
				c.wrapLog = func(s raft.LogStore) raft.LogStore {
					store = &faulty{LogStore: s}
					return store
				}
			})
			healthy, _, _ := open(t, nil)
			mustApply(t, broken, []byte{1})
			breakIt(store)
			if _, _, err := broken.Apply([]byte{2}); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Fatalf("Apply on a breaking log: got %v, want outcome unknown", err)
			}
			if _, _, err := broken.Apply([]byte{3}); !errors.Is(err, cloakroom.ErrUnavailable) {
				t.Fatalf("Apply afterwards: got %v, want unavailable", err)
			}
			if err := broken.AwaitRoom(context.Background()); !errors.Is(err, cloakroom.ErrUnavailable) {
				t.Fatalf("AwaitRoom: got %v, want unavailable", err)
			}
			if s := broken.Status(); s.Parked == "" || s.Leading {
				t.Fatalf("status of the parked one: %+v", s)
			}
			mustApply(t, healthy, []byte{1})
		})
	}
}

// A committed entry that can't be read makes raft panic in its main loop.
func TestUnreadableLogEndsTheGoroutineNotTheProcess(t *testing.T) {
	var store *faulty
	self := Identity{ID: "r", Addr: "a"}
	mem := &memory{}
	r, err := New(Config{Group: "test", Generation: 1, Identity: self, Found: true,
		Machine: &summer{}, MapLog: mem.Map, UnmapLog: mem.Unmap,
		wrapLog: func(s raft.LogStore) raft.LogStore {
			// Two reads of the first entry go well (NewRaft's); the third is
			// that of the main loop, which applies it after the election.
			store = &faulty{LogStore: &countdown{LogStore: s, left: 2}}
			return store
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.AwaitLead(context.Background())
	if !errors.Is(err, cloakroom.ErrUnavailable) || r.Status().Parked == "" {
		t.Fatalf("AwaitLead: got %v (%+v), want parked", err, r.Status())
	}
}

// countdown panics after so many reads.
type countdown struct {
	raft.LogStore
	left int
}

func (c *countdown) GetLog(index uint64, log *raft.Log) error {
	if c.left--; c.left < 0 {
		panic("page gone")
	}
	return c.LogStore.GetLog(index, log)
}

func TestFailingMachineParksTheReplica(t *testing.T) {
	r, machine, _ := open(t, nil)
	mustApply(t, r, []byte{1})
	machine.fail.Store(true)
	if _, _, err := r.Apply([]byte{1}); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Fatalf("Apply: got %v, want outcome unknown", err)
	}
	machine.fail.Store(false)
	if _, _, err := r.Apply([]byte{1}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("Apply afterwards: got %v, want unavailable", err)
	}
	if err := r.AwaitApplied(context.Background(), 1<<40); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("AwaitApplied: got %v, want unavailable", err)
	}
}

// Without memory for the log a write fails, and the next one that finds some
// succeeds: nothing is broken.
func TestNoLogMemoryDoesNotPark(t *testing.T) {
	r, _, mem := open(t, nil)
	mem.refuse.Store(true)
	big := make([]byte, 300<<10)
	var err error
	for range 10 {
		if _, _, err = r.Apply(big); err != nil {
			break
		}
	}
	if !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Fatalf("Apply: got %v, want outcome unknown", err)
	}
	mem.refuse.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for { // raft stepped down; it comes back after an election timeout
		if _, _, err = r.Apply([]byte{1}); err == nil {
			return
		}
		ring := r.changed.Wait()
		if r.Leads() {
			continue
		}
		select {
		case <-ring:
		case <-ctx.Done():
			t.Fatalf("never came back: %v", err)
		}
	}
}

func TestCloseWhileApplying(t *testing.T) {
	r, _, _ := open(t, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				if _, _, err := r.Apply([]byte{1}); err != nil {
					if !errors.Is(err, cloakroom.ErrUnavailable) {
						t.Errorf("Apply during Close: got %v, want unavailable", err)
					}
					return
				}
			}
		})
	}
	mustApply(t, r, []byte{1})
	r.Close()
	wg.Wait()
	if err := r.AwaitLead(context.Background()); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("AwaitLead after Close: got %v", err)
	}
}

func TestOnlyThreeErrorsMeanNothingHappened(t *testing.T) {
	tests := map[error]error{
		raft.ErrNotLeader:                    cloakroom.ErrUnavailable,
		raft.ErrLeadershipTransferInProgress: ErrTransferring,
		raft.ErrEnqueueTimeout:               cloakroom.ErrUnavailable,
		raft.ErrLeadershipLost:               cloakroom.ErrOutcomeUnknown,
		raft.ErrRaftShutdown:                 cloakroom.ErrOutcomeUnknown,
		raft.ErrAbortedByRestore:             cloakroom.ErrOutcomeUnknown,
		errors.New("disk full"):              cloakroom.ErrOutcomeUnknown,
	}
	for err, want := range tests {
		if got := outcome(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := New(Config{LogBudget: 1})
	for _, want := range []string{"Identity", "Generation", "Machine", "MapLog", "LogBudget", "Stream"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("fault of %s is missing in: %v", want, err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{400, 250 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r, _, _ := open(b, func(c *Config) { c.LogBudget = 8 << 20; c.Machine = nothing{} })
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				mustApply(b, r, data)
			}
		})
	}
}

// nothing is a machine that does nothing.
type nothing struct{}

func (nothing) Apply(uint64, []byte) (any, error) { return true, nil }
func (nothing) Snapshot() (View, error)           { return sumView(0), nil }
func (nothing) Restore(io.Reader) error           { return nil }
