package confirm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Int("seeds", 300, "how many worlds the model test makes")
	seed  = flag.Uint64("seed", 0, "the one world to make, 0: random ones")
)

// hazard is a mistake around Confirm that the model makes on purpose: the test
// must notice each.
type hazard int

const (
	noHazard     hazard = iota
	sameIdentity        // a replica that lost its memory comes back under its old name
	oldVoters           // Led tells of the configuration two changes ago
	ownTerm             // the leader trusts its flag instead of its term
	remembered          // a voter answers as it did the last time, and looks then
)

// voter is a replica as far as terms, votes and configurations go.
type voter struct {
	node string
	term uint64
	log  int  // how many configurations its log holds
	lost bool // with its memory, for good
}

// world is one group in term 1, led by replica 0, which will not learn of its
// end. Everything that happens to a voter happens at one moment.
type world struct {
	hazard  hazard
	rng     *rand.Rand
	voters  []*voter
	configs [][]int // of the leader's log; the last is the latest
	elected bool    // a leader of a later term
}

func newWorld(rng *rand.Rand, hazard hazard) *world {
	w := &world{hazard: hazard, rng: rng}
	for node := range 3 {
		w.voters = append(w.voters, &voter{node: fmt.Sprint(node), term: 1, log: 1})
	}
	w.configs = [][]int{{0, 1, 2}}
	return w
}

// committed reports whether the latest configuration is.
func (w *world) committed() bool {
	n := 0
	for _, id := range w.latest() {
		if v := w.voters[id]; !v.lost && v.log == len(w.configs) {
			n++
		}
	}
	return n > len(w.latest())/2
}

func (w *world) latest() []int { return w.configs[len(w.configs)-1] }

// leads reports whether replica 0 can still append to its log.
func (w *world) leads() bool { return w.voters[0].term == 1 }

// change has the leader append another configuration, one voter away, if raft
// allows it.
func (w *world) change() {
	if !w.leads() || !w.committed() {
		return
	}
	next := slices.Clone(w.latest())
	if len(next) > 2 && w.rng.IntN(2) == 0 {
		i := 1 + w.rng.IntN(len(next)-1) // never itself
		next = slices.Delete(next, i, i+1)
	} else if len(next) < 5 {
		w.voters = append(w.voters, &voter{node: fmt.Sprint(w.rng.IntN(5))})
		next = append(next, len(w.voters)-1)
	}
	w.configs = append(w.configs, next)
	w.voters[0].log = len(w.configs)
}

// replicate brings one voter's log up to the leader's.
func (w *world) replicate() {
	v := w.voters[w.rng.IntN(len(w.voters))]
	if w.leads() && !v.lost && v.term <= 1 {
		v.term, v.log = 1, len(w.configs)
	}
}

// elect has a random replica stand for election in a new term; each other
// hears of it or not.
func (w *world) elect() {
	candidate := w.rng.IntN(len(w.voters))
	c := w.voters[candidate]
	if c.lost || c.log == 0 || !slices.Contains(w.configs[c.log-1], candidate) {
		return
	}
	c.term++
	votes := 0
	for _, id := range w.configs[c.log-1] {
		v := w.voters[id]
		switch {
		case id == candidate:
			votes++
		case !v.lost && v.term < c.term && w.rng.IntN(3) > 0:
			v.term = c.term
			if c.log >= v.log {
				votes++
			}
		}
	}
	if votes > len(w.configs[c.log-1])/2 {
		w.elected = true
	}
}

// forget takes a replica's memory.
func (w *world) forget() {
	v := w.voters[1+w.rng.IntN(len(w.voters)-1)]
	if w.hazard == sameIdentity {
		v.term, v.log = 0, 0
	} else {
		v.lost = true
	}
}

// yes is a replica's answer to a question.
func (w *world) yes(q Question) bool {
	var id int
	_, err := fmt.Sscan(q.Replica, &id)
	return err == nil && !w.voters[id].lost && w.voters[id].term <= q.Term
}

func (w *world) lead() Lead {
	config := w.latest()
	if w.hazard == oldVoters && len(w.configs) > 2 {
		config = w.configs[len(w.configs)-3]
	}
	lead := Lead{Term: 1, Self: "0"}
	for _, id := range config {
		lead.Voters = append(lead.Voters, Voter{fmt.Sprint(id), w.voters[id].node})
	}
	return lead
}

// model is a node that leads a few groups, and the network around it.
type model struct {
	mu     sync.Mutex // everything
	hazard hazard
	rng    *rand.Rand
	worlds []*world
	last   map[Question]bool // what was answered the last time

	yes, no, late int    // confirmed; not, without cause; not, and rightly so
	broken        string // how Confirm said yes to a leader that was deposed
}

// some returns a random time up to d.
func (m *model) some(d time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.rng.Int64N(int64(d)))
}

// one in n.
func (m *model) one(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n) == 0
}

// ask carries questions and answers through a network that delays them, holds
// them for long, or loses them.
func (m *model) ask(ctx context.Context, _ string, questions []Question) (Answer, error) {
	travel := func() error {
		d := m.some(2 * time.Millisecond)
		switch {
		case m.one(20):
			return errors.New("connection lost")
		case m.one(20):
			d += m.some(time.Second)
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	look := func() []bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		yes := make([]bool, len(questions))
		for i, q := range questions {
			yes[i] = m.worlds[q.Group].yes(q)
			if m.hazard == remembered {
				yes[i], m.last[q] = m.last[q], yes[i]
			}
		}
		return yes
	}
	if err := travel(); err != nil {
		return Answer{}, err
	}
	yes := look()
	return Answer{Yes: yes, Now: time.Now()}, travel()
}

func (m *model) led(group uint32) (Lead, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.worlds[group].lead(), true
}

func (m *model) here(q Question) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hazard == ownTerm || m.worlds[q.Group].yes(q)
}

// call confirms some groups and holds the answer to what was true before.
func (m *model) call(r *Rounds) {
	m.mu.Lock()
	var want []Want
	var before []bool
	for group, w := range m.worlds {
		if m.rng.IntN(2) == 0 {
			want = append(want, Want{uint32(group), 1})
			before = append(before, w.elected)
		}
	}
	m.mu.Unlock()
	ok := make([]bool, len(want))
	ctx, cancel := context.WithTimeout(context.Background(), m.some(time.Second))
	defer cancel()
	r.Confirm(ctx, want, ok)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, yes := range ok {
		switch {
		case yes && before[i]:
			m.broken = fmt.Sprintf("group %d was confirmed although a newer leader had been elected before the call", want[i].Group)
		case yes:
			m.yes++
		case before[i]:
			m.late++
		default:
			m.no++
		}
	}
}

// play lets callers and the world run beside each other for a while.
func (m *model) play(t *testing.T) {
	r, err := New(Config{Ask: m.ask, Led: m.led, Here: m.here, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() { // ends after so many calls
			for range 25 {
				sleep(m.some(2 * time.Millisecond))
				m.call(r)
			}
		})
	}
	running.Go(func() {
		for range 150 {
			sleep(m.some(time.Millisecond))
			m.step()
		}
	})
	running.Wait()
}

// step is one thing that happens to one group.
func (m *model) step() {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.worlds[m.rng.IntN(len(m.worlds))]
	switch n := m.rng.IntN(100); {
	case n < 20:
		w.change()
	case n < 92:
		w.replicate()
	case n < 96:
		w.elect()
	default:
		w.forget()
	}
}

// run plays the world of a seed.
func run(t *testing.T, seed uint64, hazard hazard) *model {
	m := &model{hazard: hazard, rng: rand.New(rand.NewPCG(seed, 3)), last: map[Question]bool{}}
	for range 3 {
		m.worlds = append(m.worlds, newWorld(m.rng, hazard))
	}
	synctest.Test(t, func(t *testing.T) { m.play(t) })
	return m
}

// Confirm never says yes if, before it was called, a leader of a newer term
// had been elected: over voters that move terms, vote, lose their memory and
// change configurations at random moments.
func TestConfirmNeverMissesANewerLeader(t *testing.T) {
	first, n := *seed, 1
	if first == 0 {
		first, n = rand.Uint64(), *seeds
	}
	var total model
	for i := range uint64(n) {
		m := run(t, first+i, noHazard)
		if m.broken != "" {
			t.Fatalf("seed %d (go test -run %s -seed %d): %s", first+i, t.Name(), first+i, m.broken)
		}
		total.yes, total.no, total.late = total.yes+m.yes, total.no+m.no, total.late+m.late
	}
	t.Logf("seeds %d to %d: %d confirmed, %d not, %d rightly not", first, first+uint64(n)-1, total.yes, total.no, total.late)
	if n > 10 && (total.yes < 30*n || total.late < 30*n) {
		t.Errorf("confirmed %d, refused %d after an election: too few to mean anything", total.yes, total.late)
	}
}

// A model that finds nothing proves nothing: each mistake must show.
func TestTheModelFindsEachMistake(t *testing.T) {
	first := rand.Uint64()
	for name, hazard := range map[string]hazard{
		"the same identity after a loss of memory": sameIdentity,
		"an old configuration":                     oldVoters,
		"the leader's flag for its vote":           ownTerm,
		"a term remembered from the last question": remembered,
	} {
		t.Run(name, func(t *testing.T) {
			for i := range uint64(2000) {
				if m := run(t, first+i, hazard); m.broken != "" {
					t.Logf("found with seed %d after %d others", first+i, i)
					return
				}
			}
			t.Errorf("not found with seeds %d to %d", first, first+1999)
		})
	}
}
