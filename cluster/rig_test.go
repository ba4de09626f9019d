package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
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

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode")) // see cluster/gossip
}

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

func (r *recorder) Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, t := range tokens {
		rec := r.stored[t]
		spans[i] = command.Span{Off: uint32(len(dst.Buf)), Len: uint32(len(rec))}
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
	c, err := New(t.Context(), cfg)
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
