package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/wire"
)

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
	if n := (*r.ready.Load())[0].queue.size(); n != 0 {
		t.Errorf("%d bytes of it are still counted", n)
	}
}

// A proposal that is in part in an entry can't be taken back: the rest follows.
func TestDeadlineBetweenTwoEntries(t *testing.T) {
	r, m := gated(t, nil)
	cmds := make([]command.Command, 6)
	for i := range cmds {
		cmds[i] = put(uint64(i+1), 60<<10)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := r.background(ctx, cmds...)
	<-m.enter
	cancel()
	if err := <-done; !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("got %v, want outcome unknown", err)
	}
	last := r.background(t.Context(), put(7, 10))
	for range 3 {
		m.gate <- struct{}{}
	}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	if len(m.seen) != 7 {
		t.Errorf("applied %d commands, want 7", len(m.seen))
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

// A proposal without commands, as another node may send it, made an entry
// without an answer and stopped the process.
func TestAnEmptyProposalIsRefused(t *testing.T) {
	r := open(t, nil)
	p := r.blank()
	if err := (*r.ready.Load())[0].queue.push(p); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Fatalf("pushed: %v, want ErrMalformed", err)
	}
	req := wire.ProposeRequest{Group: 1, Generation: 1}
	if reply, err := r.servePropose(t.Context(), req.Append(nil)); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Errorf("served: %x, %v, want ErrMalformed", reply, err)
	}
}
