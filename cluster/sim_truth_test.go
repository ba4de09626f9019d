package cluster

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
)

// simTruth is what must be true of all nodes together, all the time. What is
// not is noted, with the moment.
type simTruth struct {
	begin time.Time

	mu      sync.Mutex
	broken  []string
	hashes  map[simEntry]simHash           // after each entry
	wrote   map[cloakroom.Version]simEntry // by which entry a version came
	leaders map[simTerm]string             // replica that led
	cards   map[string]simCard             // replicas by identity
	stays   map[string]simStay
	holders map[string]*simLife // life that runs a replica
	views   map[uint64]simView  // directory by epoch
}

type simEntry struct {
	shard cloakroom.ShardID
	index uint64
}

type simHash struct {
	sum  [32]byte
	life string
}

type simTerm struct {
	group directory.GroupID
	term  uint64
}

// simCard is what belongs to a replica's identity for ever.
type simCard struct {
	group               directory.GroupID
	address, node, life string
}

// simStay is when a replica's identity was in the directory, by epoch.
type simStay struct{ first, last, gone uint64 }

type simView struct {
	sum  [32]byte
	life string
}

// maxBroken bounds what is noted: one fault often shows a hundred times.
const maxBroken = 20

func newSimTruth() *simTruth {
	return &simTruth{begin: time.Now(), hashes: make(map[simEntry]simHash), wrote: make(map[cloakroom.Version]simEntry),
		leaders: make(map[simTerm]string), cards: make(map[string]simCard), stays: make(map[string]simStay), holders: make(map[string]*simLife),
		views: make(map[uint64]simView)}
}

// violated notes that something is not as it must be.
func (t *simTruth) violated(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breach(format, args...)
}

func (t *simTruth) breach(format string, args ...any) {
	if len(t.broken) < maxBroken {
		t.broken = append(t.broken, fmt.Sprintf("%8.3fs ", time.Since(t.begin).Seconds())+fmt.Sprintf(format, args...))
	}
}

// applied checks that whoever applied the same entries has the same hash.
func (t *simTruth) applied(l *simLife, shard cloakroom.ShardID, index uint64, sum [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := simEntry{shard, index}
	if before, there := t.hashes[at]; !there {
		t.hashes[at] = simHash{sum, l.String()}
	} else if before.sum != sum {
		t.breach("shard %d: %v and %s differ at entry %d", shard, l, before.life, index)
	}
}

// once checks that no version is written by two entries: a command that was
// not answered must not be proposed again behind its caller's back.
func (t *simTruth) once(shard cloakroom.ShardID, index uint64, batch []byte) {
	frame, err := command.OpenBatch(batch)
	if err != nil {
		t.violated("shard %d: entry %d can't be read", shard, index)
		return
	}
	var c command.Command
	for item, more := frame.Next(); more; item, more = frame.Next() {
		if command.Decode(item, &c) != nil || c.Kind == command.Time {
			continue
		}
		at := simEntry{shard, index}
		t.mu.Lock()
		if before, there := t.wrote[c.Version]; there && before != at {
			t.breach("shard %d: version %v by entry %d and by entry %d of shard %d", shard, c.Version, index, before.index, before.shard)
		}
		t.wrote[c.Version] = at
		t.mu.Unlock()
	}
}

// entryOf returns by which entry a state came, 0 if it came by none.
func (t *simTruth) entryOf(state simState) uint64 {
	if state == simAbsent || state == simErased {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrote[simVersionOf(state)].index
}

// watch looks at all lives every so often, until stop is closed.
func (t *simTruth) watch(w *simWorld, stop <-chan struct{}) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, l := range w.lives() {
			if c := l.cluster.Load(); c != nil {
				t.look(w, l, c)
			}
		}
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

// look checks what one life shows now.
func (t *simTruth) look(w *simWorld, l *simLife, c *Cluster) {
	view := c.Directory()
	t.lookAtView(l, view)
	for g := range view.Groups() {
		group := c.group(g)
		if group == nil {
			continue
		}
		m := group.member.Load()
		if m == nil {
			continue
		}
		term, leads := m.replica.Lead()
		t.mu.Lock()
		if holder := t.holders[m.self.ID]; holder == nil {
			t.holders[m.self.ID] = l
		} else if holder != l {
			t.breach("%v: replica %s of %v lives in %v as well", l, m.self.ID, g, holder)
		}
		if leads {
			at := simTerm{g, term}
			if before := t.leaders[at]; before == "" {
				t.leaders[at] = m.self.ID
			} else if before != m.self.ID {
				t.breach("%v: two leaders in term %d: %s and %s", g, term, before, m.self.ID)
			}
		}
		t.mu.Unlock()
		if s, ok := m.machine.(*simMachine); ok {
			t.lookAtTime(w, l, s)
		}
	}
}

// lookAtView checks that the directory is the same everywhere at the same
// epoch, and that no replica's identity is used for another.
func (t *simTruth) lookAtView(l *simLife, view *directory.View) {
	if l.epoch.Swap(view.Epoch) == view.Epoch {
		return
	}
	text, err := json.Marshal([]any{view.Nodes, view.Directory, view.Shards, view.SealingNumber, view.Settings})
	if err != nil {
		t.violated("the directory can't be written: %v", err)
		return
	}
	sum := sha256.Sum256(text)
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, there := t.views[view.Epoch]; !there {
		t.views[view.Epoch] = simView{sum, l.String()}
	} else if before.sum != sum {
		t.breach("%v and %s have different directories at epoch %d", l, before.life, view.Epoch)
	}
	for g := range view.Groups() {
		info, _ := view.Group(g)
		for _, r := range info.Replicas {
			card := simCard{g, r.Address, r.Node, r.Life}
			if before, there := t.cards[r.ID]; there && before != card {
				t.breach("replica %s was %v and is %v", r.ID, before, card)
			}
			t.cards[r.ID] = card
			stay, there := t.stays[r.ID]
			if !there {
				stay = simStay{view.Epoch, view.Epoch, math.MaxUint64}
			}
			stay.first, stay.last = min(stay.first, view.Epoch), max(stay.last, view.Epoch)
			t.stays[r.ID] = stay
		}
	}
	for id, stay := range t.stays {
		if _, _, there := view.Replica(id); !there && view.Epoch > stay.first {
			stay.gone = min(stay.gone, view.Epoch)
			t.stays[id] = stay
		}
		if stay.gone < stay.last {
			t.breach("replica %s came back: gone at epoch %d, there at %d", id, stay.gone, stay.last)
		}
	}
}

// clockSlack is how far shard time may be ahead of the bubble's: what sane
// clocks are off, and what majorities may disagree by.
const clockSlack = 15 * time.Second

// lookAtTime checks that no clock that is off pulled shard time along.
func (t *simTruth) lookAtTime(w *simWorld, l *simLife, m *simMachine) {
	if at := time.UnixMilli(int64(m.Time())); at.After(time.Now().Add(clockSlack)) {
		t.violated("%v: the time of shard %d is %v ahead", l, m.shard, time.Until(at))
	}
}

// all returns what was noted.
func (t *simTruth) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.broken...)
}
