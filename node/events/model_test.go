package events

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cloakroom"
)

// world is a few nodes that apply the same log, each as far as it has come.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	log   [shards][]int // changes of entry i+1
	nodes []*Feed
	at    [][shards]uint64 // by node: applied
}

// reader is a subscriber with what it was told since it last had to drop
// everything.
type reader struct {
	node  int
	sub   *Subscription
	since [shards]uint64
	told  map[cloakroom.Token]bool
}

// Over random schedules of writes, lag, snapshots, mirrors, small rings,
// reconnections to other nodes and gaps: whoever was told everything since a
// moment was told every change since that moment.
func TestNobodyMissesAChangeUnawares(t *testing.T) {
	seed := rand.Uint64()
	if testing.Verbose() {
		t.Logf("seed %d", seed)
	}
	gaps, resumed := 0, 0
	for run := range uint64(300) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, run))}
		for range 3 {
			w.nodes = append(w.nodes, newFeed(t, minRing))
			w.at = append(w.at, [shards]uint64{})
		}
		r := &reader{node: 0}
		w.subscribe(r, nil)
		for range 200 {
			g, re := w.step(r)
			gaps, resumed = gaps+g, resumed+re
			if t.Failed() {
				t.Fatalf("seed %d, run %d", seed, run)
			}
		}
		r.sub.Close()
		for i, f := range w.nodes {
			if n := f.Subscribers(); n != 0 {
				t.Fatalf("seed %d, run %d: node %d counts %d subscribers", seed, run, i, n)
			}
		}
	}
	if gaps == 0 || resumed == 0 {
		t.Errorf("seed %d: %d gaps, %d resumed: the schedules are too tame", seed, gaps, resumed)
	}
}

func (w *world) subscribe(r *reader, marks []uint64) (resumed bool) {
	if r.sub != nil {
		r.sub.Close()
	}
	r.sub, resumed = w.nodes[r.node].Subscribe(shards, marks)
	if !resumed {
		w.drop(r)
	}
	return resumed
}

// drop forgets what r was told: it counts anew from where it stands.
func (w *world) drop(r *reader) {
	r.told = map[cloakroom.Token]bool{}
	copy(r.since[:], r.sub.Marks(nil))
}

func (w *world) step(r *reader) (gaps, resumed int) {
	node, shard := w.rng.IntN(len(w.nodes)), w.rng.IntN(shards)
	switch w.rng.IntN(8) {
	case 0, 1: // writes
		for range w.rng.IntN(20) {
			w.log[shard] = append(w.log[shard], w.rng.IntN(4)*w.rng.IntN(4))
		}
	case 2, 3, 4: // a node applies some; with node 2 only shards 0 and 1 are
		if node == 2 && shard == 2 {
			w.mirror()
			break
		}
		for range w.rng.IntN(60) {
			w.apply(node, shard)
		}
	case 5: // rarely, a node's replica is begun anew
		switch w.rng.IntN(10) {
		case 0:
			w.at[node][shard] = 0
		case 1:
			if to := uint64(len(w.log[shard])); to > 0 && (node != 2 || shard != 2) {
				w.at[node][shard] = to
				w.nodes[node].Restored(cloakroom.ShardID(shard), to)
			}
		}
	case 6: // the reader goes to another node
		r.node = w.rng.IntN(len(w.nodes))
		if w.subscribe(r, r.sub.Marks(nil)) {
			resumed++
		}
	case 7:
		all, ok := drain(w.t, r.sub, 1+w.rng.IntN(10))
		if !ok {
			w.drop(r)
			gaps++
			break
		}
		for _, c := range all {
			r.told[c.Token] = true
		}
		w.check(r)
	}
	return gaps, resumed
}

func (w *world) apply(node, shard int) {
	at := &w.at[node][shard]
	if *at == uint64(len(w.log[shard])) {
		return
	}
	*at++
	if n := w.log[shard][*at-1]; n > 0 {
		w.nodes[node].Applied(cloakroom.ShardID(shard), *at, entry(*at, n))
	}
}

// mirror has node 2 ask another about shard 2.
func (w *world) mirror() {
	from, to := w.nodes[w.rng.IntN(2)], w.nodes[2]
	list, reach, ok := from.Since(2, to.Reach(2), 1+w.rng.IntN(50), nil)
	to.Mirror(2, Mirror{Changes: list, Reach: reach, Gap: !ok})
}

// check holds what r was told against the log, up to where it says it stands.
func (w *world) check(r *reader) {
	marks := r.sub.Marks(nil)
	for shard, upto := range marks {
		for i := r.since[shard] + 1; i <= min(upto, uint64(len(w.log[shard]))); i++ {
			for j := range w.log[shard][i-1] {
				if !r.told[tokenOf(i, j)] {
					w.t.Errorf("shard %d stands at %d and was not told of change %d of entry %d", shard, upto, j, i)
					return
				}
			}
		}
	}
}

// One applies without a pause while many read, and one never reads.
func TestApplyingWaitsForNobody(t *testing.T) {
	f := newFeed(t, 4096)
	idle, _ := f.Subscribe(shards, nil)
	defer idle.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			s, _ := f.Subscribe(shards, nil)
			defer s.Close()
			dst := make([]Change, 64)
			last := uint64(0)
			for {
				n, _, ok := s.Read(dst, everything)
				if !ok {
					last = 0
				}
				for _, c := range dst[:n] {
					if c.Index < last {
						t.Errorf("entry %d came behind %d", c.Index, last)
						return
					}
					last = c.Index
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	list := entry(0, 8)
	for i := range uint64(20_000) {
		f.Applied(0, i+1, list)
	}
	close(stop)
	readers.Wait()
	if _, ok := drain(t, idle, 10); ok {
		t.Error("who did not read has no gap")
	}
}

// BenchmarkApplied is what a change costs whoever applies the log: alone, and
// with 100 subscribers that read twice a second at most.
func BenchmarkApplied(b *testing.B) {
	for name, subscribers := range map[string]int{"alone": 0, "100 subscribers": 100} {
		b.Run(name, func(b *testing.B) {
			f := newFeed(b, 32<<10)
			stop := make(chan struct{})
			var readers sync.WaitGroup
			for range subscribers {
				readers.Go(func() {
					s, _ := f.Subscribe(shards, nil)
					defer s.Close()
					dst := make([]Change, 256)
					tick := time.NewTicker(500 * time.Millisecond)
					defer tick.Stop()
					for {
						for more, ok := true, true; more && ok; {
							_, more, ok = s.Read(dst, everything)
						}
						select {
						case <-tick.C:
						case <-stop:
							return
						}
					}
				})
			}
			list := entry(0, 32)
			index := uint64(0)
			for b.Loop() {
				index++
				f.Applied(0, index, list)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/change")
			close(stop)
			readers.Wait()
		})
	}
}
