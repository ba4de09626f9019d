package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a machine that remembers what it applied and answers each
// command with the command's own version.
type recorder struct {
	gate  chan struct{} // if set, every entry with a subject takes a token first
	fail  atomic.Bool
	enter chan int // if set, gets the number of items as an entry arrives

	mu      sync.Mutex
	batches []int // items of each entry with a subject
	sizes   []int // its bytes
	seen    map[cloakroom.Version]int
	times   []uint64
	stored  map[cloakroom.Token][]byte
}

func (r *recorder) Apply(_ uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	frame, err := command.OpenBatch(batch)
	if err != nil {
		return nil, err
	}
	n := frame.Len()
	var c command.Command
	for i := range n {
		item, _ := frame.Next()
		if err := command.Decode(item, &c); err != nil {
			return nil, err
		}
		if c.Kind == command.Time {
			r.mu.Lock()
			r.times = append(r.times, c.Value)
			r.mu.Unlock()
			results = append(results, command.Result{Code: command.Done})
			continue
		}
		if i == 0 {
			r.arrive(n, len(batch))
		}
		r.record(&c)
		results = append(results, command.Result{Code: command.Created, Version: c.Version})
	}
	if r.fail.Load() {
		return nil, errors.New("allocation failed")
	}
	return results, nil
}

func (r *recorder) arrive(items, size int) {
	r.mu.Lock()
	r.batches, r.sizes = append(r.batches, items), append(r.sizes, size)
	r.mu.Unlock()
	if r.enter != nil {
		r.enter <- items
	}
	if r.gate != nil {
		<-r.gate
	}
}

func (r *recorder) record(c *command.Command) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[c.Version]++
	for _, f := range c.Fields {
		r.stored[f.Token] = bytes.Clone(f.Record)
	}
}

func (r *recorder) Read(tokens []cloakroom.Token, dst *command.Records) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tokens {
		rec := r.stored[t]
		dst.Spans = append(dst.Spans, command.Span{Off: uint32(len(dst.Buf)), Len: uint32(len(rec))})
		dst.Buf = append(dst.Buf, rec...)
	}
}

func (r *recorder) Snapshot() (replica.View, error) { return nil, errors.New("not asked for") }
func (r *recorder) Restore(io.Reader) error         { return errors.New("not asked for") }

// handClock is moved by hand.
type handClock struct {
	now   atomic.Int64
	ticks chan time.Time
}

func (c *handClock) Now() time.Time                       { return time.UnixMilli(c.now.Load()) }
func (c *handClock) After(time.Duration) <-chan time.Time { return c.ticks }

// rig is a cluster under test.
type rig struct {
	*Cluster
	clock    *handClock
	machines []*recorder
	sealFail atomic.Bool
	free     atomic.Int64
}

// seal is a stand-in: it marks and masks, and binds group and generation.
func seal(dst []byte, group, generation uint32, batch []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, group)
	dst = binary.BigEndian.AppendUint32(dst, generation)
	for _, b := range batch {
		dst = append(dst, b^0xa5)
	}
	return dst
}

func unseal(dst []byte, group, generation uint32, sealed []byte) ([]byte, error) {
	if len(sealed) < 8 || binary.BigEndian.Uint32(sealed) != group || binary.BigEndian.Uint32(sealed[4:]) != generation {
		return dst, errors.New("sealed for another group")
	}
	for _, b := range sealed[8:] {
		dst = append(dst, b^0xa5)
	}
	return dst, nil
}

// open starts a cluster of a few shards and closes it with the test.
func open(t testing.TB, change func(*Config, *rig)) *rig {
	t.Helper()
	r := &rig{clock: &handClock{ticks: make(chan time.Time)}}
	r.clock.now.Store(1_800_000_000_000)
	r.free.Store(100 << 20)
	var mu sync.Mutex
	cfg := Config{Node: "n1", ClusterID: directory.ID{1}, Shards: 2, Clock: r.clock, Rand: rand.Reader,
		LogBudget: 4 << 20,
		MapLog:    func(n int) ([]byte, error) { return make([]byte, n), nil }, UnmapLog: func([]byte) {},
		SealBatch: func(dst []byte, group, generation uint32, batch []byte) ([]byte, error) {
			if r.sealFail.Load() {
				return nil, errors.New("no key")
			}
			return seal(dst, group, generation, batch), nil
		},
		OpenBatch:    unseal,
		RecordMemory: func() (int64, int64) { return r.free.Load(), 100 << 20 },
	}
	r.machines = make([]*recorder, cloakroom.MaxShards)
	cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
		mu.Lock()
		defer mu.Unlock()
		r.machines[id] = &recorder{seen: make(map[cloakroom.Version]int), stored: make(map[cloakroom.Token][]byte)}
		return r.machines[id], nil
	}
	if change != nil {
		change(&cfg, r)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.Cluster = c
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return r
}

// put makes a command with its own version and a record of n bytes.
func put(serial uint64, n int) command.Command {
	c := command.Command{Kind: command.Put, SchemaEpoch: 1}
	binary.BigEndian.PutUint64(c.Version[:], serial)
	binary.BigEndian.PutUint64(c.Subject[8:], serial)
	f := command.Field{Record: make([]byte, n)}
	f.Token[0] = 1
	binary.BigEndian.PutUint64(f.Token[8:], serial)
	c.Fields = append(c.Fields, f)
	return c
}

func TestEachCommandGetsItsOwnResult(t *testing.T) {
	r := open(t, nil)
	var wg sync.WaitGroup
	var serial atomic.Uint64
	for worker := range 32 {
		wg.Go(func() {
			for round := range 20 {
				cmds := make([]command.Command, 1+(worker*7+round)%50)
				for i := range cmds {
					cmds[i] = put(serial.Add(1), (worker*131+i*17)%600)
				}
				results, index, err := r.Propose(t.Context(), cloakroom.ShardID(worker%2), cmds)
				if err != nil || len(results) != len(cmds) || index.Index == 0 || index.Generation != 1 {
					t.Errorf("Propose: %d results at %+v, %v", len(results), index, err)
					return
				}
				for i := range results {
					if results[i].Version != cmds[i].Version {
						t.Errorf("result %d is another command's", i)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, m := range r.machines[:2] {
		for v, n := range m.seen {
			if n != 1 {
				t.Fatalf("command %x was applied %d times", v, n)
			}
			total++
		}
		if len(m.batches) == 0 || len(m.batches) > 320 {
			t.Fatalf("%d entries for 320 proposals", len(m.batches))
		}
		for _, size := range m.sizes {
			if size > cloakroom.MaxEntryBytes {
				t.Fatalf("an entry of %d bytes", size)
			}
		}
	}
	if total != int(serial.Load()) {
		t.Fatalf("applied %d commands, proposed %d", total, serial.Load())
	}
}

// gated starts a cluster whose first shard applies one entry per token.
func gated(t *testing.T, change func(*Config)) (*rig, *recorder) {
	r := open(t, func(cfg *Config, r *rig) {
		inner := cfg.Machine
		cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
			m, err := inner(id)
			if id == 0 {
				m.(*recorder).gate, m.(*recorder).enter = make(chan struct{}, 100), make(chan int, 100)
			}
			return m, err
		}
		if change != nil {
			change(cfg)
		}
	})
	return r, r.machines[0]
}

// background proposes in a goroutine of its own and hands back the error.
func (r *rig) background(ctx context.Context, cmds ...command.Command) chan error {
	done := make(chan error, 1)
	go func() {
		_, _, err := r.Propose(ctx, 0, cmds)
		done <- err
	}()
	return done
}

func (r *rig) waiting() int {
	q := (*r.ready.Load())[0].queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// awaitWaiting spins until n proposals wait; the writer is held meanwhile.
func (r *rig) awaitWaiting(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for r.waiting() != n {
		runtime.Gosched()
		if time.Now().After(deadline) {
			t.Fatalf("%d proposals wait, want %d", r.waiting(), n)
		}
	}
}

// One entry is in flight; what arrives meanwhile forms the next one, up to the
// limit, and a command above the limit travels alone.
func TestWhatArrivesMeanwhileFormsTheNextEntry(t *testing.T) {
	r, m := gated(t, nil)
	var done []chan error
	add := func(cmd command.Command) { done = append(done, r.background(t.Context(), cmd)) }
	add(put(1, 10))
	<-m.enter
	for i := range 20 {
		add(put(uint64(2+i), 100))
		r.awaitWaiting(t, i+1)
	}
	// A record may be 68 KiB at most, so five fields make more than an entry.
	big := put(100, 0)
	big.Fields = nil
	for i := range 5 {
		f := command.Field{Record: make([]byte, 60<<10)}
		f.Token[0], f.Token[1] = 1, byte(i)
		big.Fields = append(big.Fields, f)
	}
	add(big)
	r.awaitWaiting(t, 21)
	add(put(101, 10))
	r.awaitWaiting(t, 22)
	for range 4 {
		m.gate <- struct{}{}
	}
	for i, d := range done {
		if err := <-d; err != nil {
			t.Errorf("proposal %d: %v", i, err)
		}
	}
	if got, want := fmt.Sprint(m.batches), "[1 20 1 1]"; got != want {
		t.Errorf("items per entry: got %s, want %s", got, want)
	}
	if m.sizes[2] <= cloakroom.MaxEntryBytes {
		t.Errorf("the large command's entry: got %d bytes", m.sizes[2])
	}
}

func TestDeadlineTellsProposedFromWaiting(t *testing.T) {
	r, m := gated(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	proposed := r.background(ctx, put(1, 10))
	<-m.enter
	waiting := r.background(ctx, put(2, 10))
	r.awaitWaiting(t, 1)
	cancel()
	if err := <-proposed; !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("proposed: got %v, want outcome unknown", err)
	}
	if err := <-waiting; !errors.Is(err, cloakroom.ErrOverloaded) || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("waiting: got %v, want overloaded", err)
	}
	last := r.background(t.Context(), put(3, 10))
	m.gate <- struct{}{}
	m.gate <- struct{}{}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	if n := m.seen[put(1, 0).Version]; n != 1 {
		t.Errorf("the proposed one was applied %d times, want 1", n)
	}
	if n := m.seen[put(2, 0).Version]; n != 0 {
		t.Errorf("the withdrawn one was applied %d times, want 0", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	r, m := gated(t, func(c *Config) { c.QueueBytes = 256 << 10 })
	first := r.background(t.Context(), put(1, 10))
	<-m.enter
	second := r.background(t.Context(), put(2, 60<<10), put(3, 60<<10), put(4, 60<<10))
	r.awaitWaiting(t, 1)
	_, _, err := r.Propose(t.Context(), 0, []command.Command{put(5, 60<<10), put(6, 60<<10)})
	if !errors.Is(err, cloakroom.ErrOverloaded) {
		t.Fatalf("Propose onto a full queue: got %v, want overloaded", err)
	}
	m.gate <- struct{}{}
	m.gate <- struct{}{}
	for _, d := range []chan error{first, second} {
		if err := <-d; err != nil {
			t.Error(err)
		}
	}
}

func TestProposalLargerThanAnEntry(t *testing.T) {
	r := open(t, nil)
	cmds := make([]command.Command, 40)
	for i := range cmds {
		cmds[i] = put(uint64(i+1), 30<<10)
	}
	results, index, err := r.Propose(t.Context(), 1, cmds)
	if err != nil || len(results) != len(cmds) {
		t.Fatalf("Propose: %d results, %v", len(results), err)
	}
	for i := range results {
		if results[i].Version != cmds[i].Version {
			t.Fatalf("result %d is another command's", i)
		}
	}
	if n := len(r.machines[1].batches); n < 5 {
		t.Errorf("1.2 MB went in %d entries", n)
	}
	if err := r.Read(t.Context(), 1, cloakroom.Lease, index, nil, &command.Records{}); err != nil {
		t.Errorf("Read at the last index: %v", err)
	}
}

func TestFullMemoryRefusesDepositsNeverErasures(t *testing.T) {
	r := open(t, nil)
	r.free.Store(10<<20 - 1)
	for _, kind := range []command.Kind{command.Put, command.Merge} {
		cmd := put(1, 10)
		cmd.Kind = kind
		if _, _, err := r.Propose(t.Context(), 0, []command.Command{cmd}); !errors.Is(err, cloakroom.ErrMemoryFull) {
			t.Errorf("%v with under 10%% free: got %v, want memory full", kind, err)
		}
	}
	erase := put(1, 0)
	erase.Kind, erase.Fields[0].Record = command.Erase, nil
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{erase}); err != nil {
		t.Errorf("erase: %v", err)
	}
	r.free.Store(11 << 20)
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(1, 10)}); err != nil {
		t.Errorf("put with 11%% free: %v", err)
	}
}

// What is on its way counts: a full queue must not run into the end of memory,
// where a shard would have to stop.
func TestDepositsOnTheirWayCount(t *testing.T) {
	r, m := gated(t, nil)
	r.free.Store(10<<20 + 100<<10)
	first := r.background(t.Context(), put(1, 60<<10))
	<-m.enter
	if _, _, err := r.Propose(t.Context(), 1, []command.Command{put(2, 60<<10)}); !errors.Is(err, cloakroom.ErrMemoryFull) {
		t.Errorf("a second one of 60 KiB with 100 KiB left: got %v, want memory full", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	second := r.background(ctx, put(3, 20<<10))
	r.awaitWaiting(t, 1)
	cancel()
	if err := <-second; !errors.Is(err, cloakroom.ErrOverloaded) {
		t.Errorf("withdrawn: got %v", err)
	}
	m.gate <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	r.sealFail.Store(true)
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(4, 10)}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("unsealed: got %v", err)
	}
	if n := r.claimed.Load(); n != 0 {
		t.Errorf("%d bytes are still claimed", n)
	}
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	r, m := gated(t, nil)
	first := r.background(t.Context(), put(1, 10))
	<-m.enter
	second := r.background(t.Context(), put(2, 10))
	r.awaitWaiting(t, 1)
	closing := make(chan struct{})
	go func() {
		r.Close()
		close(closing)
	}()
	m.gate <- struct{}{}
	m.gate <- struct{}{}
	for _, d := range []chan error{first, second} {
		if err := <-d; err != nil {
			t.Errorf("queued before Close: %v", err)
		}
	}
	<-closing
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(3, 1)}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("Propose after Close: got %v, want unavailable", err)
	}
	if err := r.Read(t.Context(), 0, cloakroom.Lease, cloakroom.Index{}, nil, &command.Records{}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("Read after Close: got %v, want unavailable", err)
	}
	if _, err := r.NextSealingNumber(t.Context()); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("NextSealingNumber after Close: got %v, want unavailable", err)
	}
}

func TestSealingThatFailsDoesNothing(t *testing.T) {
	r := open(t, nil)
	r.sealFail.Store(true)
	_, _, err := r.Propose(t.Context(), 0, []command.Command{put(1, 10)})
	if !errors.Is(err, cloakroom.ErrUnavailable) || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Fatalf("Propose without a key: got %v, want unavailable", err)
	}
	r.sealFail.Store(false)
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(2, 10)}); err != nil {
		t.Fatal(err)
	}
	if n := m0(r).seen[put(1, 0).Version]; n != 0 {
		t.Errorf("the refused one was applied %d times", n)
	}
}

func m0(r *rig) *recorder { return r.machines[0] }

// Part of a proposal applied and part refused is an unknown outcome, never
// "nothing was done".
func TestHalfAppliedIsUnknown(t *testing.T) {
	r, m := gated(t, nil)
	cmds := make([]command.Command, 10)
	for i := range cmds {
		cmds[i] = put(uint64(i+1), 60<<10)
	}
	done := r.background(t.Context(), cmds...)
	<-m.enter
	r.sealFail.Store(true)
	m.gate <- struct{}{}
	err := <-done
	if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("got %v, want outcome unknown only", err)
	}
	if n := r.waiting(); n != 0 {
		t.Errorf("%d proposals still wait", n)
	}
	if n := (*r.ready.Load())[0].queue.size(); n != 0 {
		t.Errorf("%d bytes still counted", n)
	}
}

func TestParkedShardLeavesTheOthersAlone(t *testing.T) {
	r := open(t, nil)
	m0(r).fail.Store(true)
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(1, 10)}); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Fatalf("Propose: got %v, want outcome unknown", err)
	}
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(2, 10)}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("Propose to the parked shard: got %v, want unavailable", err)
	}
	if err := r.Read(t.Context(), 0, cloakroom.Lease, cloakroom.Index{}, nil, &command.Records{}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("Read of the parked shard: got %v, want unavailable", err)
	}
	if _, _, err := r.Propose(t.Context(), 1, []command.Command{put(3, 10)}); err != nil {
		t.Fatalf("Propose to the other: %v", err)
	}
	s := r.Status()
	if s.Ready || s.Shards[0].Parked == "" || s.Shards[1].Parked != "" || r.Leads(0) || !r.Leads(1) {
		t.Fatalf("status: %+v", s)
	}
}

func TestReadWaitsForItsIndex(t *testing.T) {
	r, m := gated(t, nil)
	token := put(1, 0).Fields[0].Token
	m.gate <- struct{}{}
	_, index, err := r.Propose(t.Context(), 0, []command.Command{put(1, 5)})
	if err != nil {
		t.Fatal(err)
	}
	<-m.enter
	var got command.Records
	if err := r.Read(t.Context(), 0, cloakroom.Linearizable, index, []cloakroom.Token{token, {}}, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.At(0)) != 5 || got.At(1) != nil {
		t.Fatalf("records: got %v and %v", got.At(0), got.At(1))
	}
	late, other := index, index
	late.Index++
	other.Index, other.Generation = 1<<40, 2
	if err := r.Read(t.Context(), 0, cloakroom.Lease, other, nil, &got); err != nil {
		t.Errorf("Read at an index of another generation: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Read(ctx, 0, cloakroom.Lease, late, nil, &got); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("Read at an index to come: got %v, want unavailable", err)
	}
	done := r.background(t.Context(), put(2, 5))
	reading := make(chan error, 1)
	go func() { reading <- r.Read(t.Context(), 0, cloakroom.Lease, late, nil, &command.Records{}) }()
	m.gate <- struct{}{}
	if err := errors.Join(<-done, <-reading); err != nil {
		t.Error(err)
	}
}

func TestShardTimeMovesForwardOnly(t *testing.T) {
	r := open(t, nil)
	start := r.clock.now.Load()
	for _, ms := range []int64{1000, 2000, 500, 2000, 3000} {
		r.clock.ticks <- time.UnixMilli(start + ms)
		// A later write is behind the time command in the same queue.
		if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(uint64(ms), 1)}); err != nil {
			t.Fatal(err)
		}
	}
	r.clock.ticks <- time.UnixMilli(start) // the tick before is done with
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{put(9, 1)}); err != nil {
		t.Fatal(err)
	}
	m0(r).mu.Lock()
	defer m0(r).mu.Unlock()
	want := []uint64{uint64(start), uint64(start + 1000), uint64(start + 2000), uint64(start + 3000)}
	if fmt.Sprint(m0(r).times) != fmt.Sprint(want) {
		t.Errorf("times: got %v, want %v", m0(r).times, want)
	}
}

func TestDirectoryStartsWithTheShardMap(t *testing.T) {
	r := open(t, nil)
	v := r.Directory()
	if v.ClusterID != (directory.ID{1}) || len(v.Shards) != 2 || v.Epoch != 1 {
		t.Fatalf("view: %+v", v)
	}
	if got := r.ShardOf(0); got != 0 {
		t.Errorf("shard of slot 0: got %d", got)
	}
	if got := r.ShardOf(cloakroom.Slots - 1); got != 1 {
		t.Errorf("shard of the last slot: got %d", got)
	}
	status := r.Status()
	if !status.Ready || status.Shards[1].Identity.ID != v.Shards[1].Replicas[0].ID {
		t.Errorf("status: %+v", status)
	}
}

func TestSealingNumbersAreHandedOutOnce(t *testing.T) {
	r := open(t, nil)
	var mu sync.Mutex
	seen := make(map[cloakroom.SealingNumber]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				n, err := r.NextSealingNumber(t.Context())
				mu.Lock()
				if err != nil || n == 0 || seen[n] {
					t.Errorf("number %d: %v, handed out before: %v", n, err, seen[n])
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestDirectoryRefusesByResult(t *testing.T) {
	r := open(t, nil)
	result, err := r.ProposeDirectory(t.Context(), &directory.Command{SetSchema: &directory.SetSchema{ExpectedEpoch: 5}})
	if err != nil || !errors.Is(result.Err(), cloakroom.ErrConflict) {
		t.Fatalf("got %+v, %v; want a conflict in the result", result, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ProposeDirectory(ctx, &directory.Command{NextSealing: &directory.NextSealing{}}); err != nil &&
		!errors.Is(err, cloakroom.ErrOverloaded) && !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Fatalf("with a dead context: %v", err)
	}
}

func TestBeforeStart(t *testing.T) {
	r := open(t, nil)
	cfg := r.cfg
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Propose(t.Context(), 0, []command.Command{put(1, 1)}); !errors.Is(err, cloakroom.ErrStarting) {
		t.Errorf("Propose: got %v, want starting", err)
	}
	if n, err := c.NextSealingNumber(t.Context()); err != nil || n != 1 {
		t.Errorf("NextSealingNumber before Start: %d, %v", n, err)
	}
	if c.Status().Ready {
		t.Error("ready before Start")
	}
}

func TestShardsThatCantStartLeaveNothingBehind(t *testing.T) {
	r := open(t, nil)
	cfg := r.cfg
	inner := cfg.Machine
	cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
		if id == 1 {
			return nil, errors.New("no memory")
		}
		return inner(id)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("Start: got no error")
	}
	c.Close() // goleak looks
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := New(Config{Shards: 65, LogBudget: 1, QueueBytes: 1})
	for _, want := range []string{"Node", "ClusterID", "Shards", "Clock", "Rand", "Machine", "SealBatch", "MapLog", "LogBudget", "QueueBytes"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("fault of %s is missing in: %v", want, err)
		}
	}
}

// All seventeen groups of a node come up within a fraction of an election
// timeout.
func TestSeventeenGroupsStartAtOnce(t *testing.T) {
	begin := time.Now()
	open(t, func(c *Config, _ *rig) { c.Shards = 16 })
	if took := time.Since(begin); took > 400*time.Millisecond {
		t.Errorf("ready after %v", took)
	} else {
		t.Logf("ready after %v", took)
	}
}
