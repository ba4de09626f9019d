package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
)

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
	c, err := New(t.Context(), cfg)
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
	c, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("Start: got no error")
	}
	c.Close() // goleak looks
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := New(t.Context(), Config{Shards: 65, LogBudget: 1, QueueBytes: 1, Network: &Network{}})
	for _, want := range []string{"Node", "ClusterID", "Shards", "Clock", "Uptime", "Rand", "Machine", "SealBatch", "MapLog", "LogBudget", "QueueBytes"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("fault of %s is missing in: %v", want, err)
		}
	}
}

// All seventeen groups of a node come up within a fraction of an election
// timeout.
func TestSeventeenGroupsStartAtOnce(t *testing.T) {
	best := time.Hour
	for range 10 { // a busy machine may delay some of the starts, an election delays all
		begin := time.Now()
		open(t, func(c *Config, _ *rig) { c.Shards = 16 })
		if best = min(best, time.Since(begin)); best <= 400*time.Millisecond {
			t.Logf("ready after %v", best)
			return
		}
	}
	t.Errorf("ready after %v at best", best)
}
