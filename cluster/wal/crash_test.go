package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cloakroom/cluster/disk/disktest"

	"github.com/hashicorp/raft"
)

// held is what a store should hold.
type held struct {
	first int      // index of the first entry
	logs  []uint64 // terms of the entries
	term  uint64
	vote  string // for whom, in which term
	snap  Snapshot
}

func (h held) last() uint64 { return uint64(h.first + len(h.logs) - 1) }

// settled is h as Open leaves it: a log that does not lead up to the snapshot
// is dropped.
func (h held) settled() held {
	if len(h.logs) == 0 || h.snap.Index == 0 {
		return h
	}
	if h.last() < h.snap.Index || h.snap.Index >= uint64(h.first) && h.logs[int(h.snap.Index)-h.first] != h.snap.Term {
		h.logs, h.first = nil, int(h.snap.Index)+1
	}
	return h
}

// script is a random life of a store, as raft would lead it, and what held
// after each call.
type script struct {
	t     *testing.T
	rnd   *rand.Rand
	fsys  *disktest.FS
	store *Store
	held  held
	after []int  // operations of the disk when the call had returned
	state []held // and what was held then
	made  int    // operations before the store was made
}

func (c *script) done() {
	c.held.logs = append([]uint64(nil), c.held.logs...)
	c.after, c.state = append(c.after, len(c.fsys.Ops())), append(c.state, c.held)
}

func (c *script) append(n int) {
	next := c.held.last() + 1
	if len(c.held.logs) == 0 {
		next = c.held.snap.Index + 1
		c.held.first = int(next)
	}
	must(c.t, c.store.StoreLogs(entries(next, next+uint64(n)-1, c.held.term)))
	for range n {
		c.held.logs = append(c.held.logs, c.held.term)
	}
	c.done()
}

func (c *script) newTerm() {
	c.held.term += 1 + uint64(c.rnd.IntN(2))
	must(c.t, c.store.SetUint64([]byte(keyTerm), c.held.term))
	c.done()
	candidate := fmt.Sprintf("addr-%d", c.rnd.IntN(3))
	must(c.t, c.store.SetUint64([]byte(keyVoteTerm), c.held.term))
	must(c.t, c.store.Set([]byte(keyCandidate), []byte(candidate)))
	c.held.vote = fmt.Sprintf("%d %s", c.held.term, candidate)
	c.done()
}

// cutBack drops a tail that is not in the snapshot, as a new leader has it.
func (c *script) cutBack() {
	from := max(uint64(c.held.first), c.held.snap.Index+1)
	if len(c.held.logs) == 0 || c.held.last() < from {
		return
	}
	c.newTerm()
	from += uint64(c.rnd.IntN(int(c.held.last() - from + 1)))
	must(c.t, c.store.DeleteRange(from, c.held.last()))
	c.held.logs = c.held.logs[:int(from)-c.held.first]
	c.done()
	c.append(1 + c.rnd.IntN(3))
}

// compact takes a snapshot and drops what it makes superfluous.
func (c *script) compact() {
	from := max(uint64(c.held.first), c.held.snap.Index+1)
	if len(c.held.logs) == 0 || c.held.last() < from {
		return
	}
	at := from + uint64(c.rnd.IntN(int(c.held.last()-from+1)))
	of := Snapshot{at, c.held.logs[int(at)-c.held.first]}
	must(c.t, snap(c.t, c.store, of.Index, of.Term))
	c.held.snap = of
	c.done()
	to := uint64(c.held.first) + uint64(c.rnd.IntN(int(at)-c.held.first+1))
	must(c.t, c.store.DeleteRange(uint64(c.held.first), to))
	c.held.logs, c.held.first = c.held.logs[int(to)+1-c.held.first:], int(to)+1
	c.done()
}

// install takes a snapshot in from elsewhere, over whatever the log holds.
func (c *script) install() {
	c.newTerm()
	of := Snapshot{c.held.snap.Index + 1 + uint64(c.rnd.IntN(30)), c.held.term}
	must(c.t, snap(c.t, c.store, of.Index, of.Term))
	c.held.snap = of
	c.done()
	if len(c.held.logs) > 0 {
		must(c.t, c.store.DeleteRange(uint64(c.held.first), c.held.last()))
		c.held.logs, c.held.first = nil, int(of.Index)+1
		c.done()
	}
	c.append(1 + c.rnd.IntN(3))
}

func (c *script) reopen() {
	must(c.t, c.store.Close())
	c.store = opened(c.t, c.fsys)
	logs := replay(c.t, c.store)
	if err := fits(c.store, logs, c.held, c.held); err != nil {
		c.t.Fatal(err)
	}
	c.held = c.held.settled()
	if len(logs) > 0 { // raft goes on from what it finds, which may begin earlier
		c.held.first, c.held.logs = int(logs[0].Index), nil
		for _, log := range logs {
			c.held.logs = append(c.held.logs, log.Term)
		}
	}
	c.done()
}

func (c *script) run(steps int) {
	c.newTerm()
	for range steps {
		switch c.rnd.IntN(12) {
		case 0:
			c.newTerm()
		case 1:
			c.cutBack()
		case 2:
			c.compact()
		case 3:
			c.install()
		case 4:
			c.reopen()
		default:
			c.append(1 + c.rnd.IntN(6))
		}
	}
}

func newScript(t *testing.T, seed uint64) *script {
	c := &script{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), fsys: newFS(t), held: held{first: 1}}
	c.made = len(c.fsys.Ops())
	c.store = made(t, c.fsys)
	c.done()
	return c
}

// fits reports what a store holds that it should not, or lacks, if a crash came
// between two calls.
func fits(s *Store, logs []*raft.Log, before, after held) error {
	term, _ := s.GetUint64([]byte(keyTerm))
	if term != before.term && term != after.term {
		return fmt.Errorf("term %d, want %d or %d", term, before.term, after.term)
	}
	vote := ""
	if voteTerm, err := s.GetUint64([]byte(keyVoteTerm)); err == nil {
		candidate, _ := s.Get([]byte(keyCandidate))
		vote = fmt.Sprintf("%d %s", voteTerm, candidate)
	}
	if vote != before.vote && vote != after.vote {
		return fmt.Errorf("vote %q, want %q or %q", vote, before.vote, after.vote)
	}
	if of := s.snaps.newest(); of != before.snap && of != after.snap {
		return fmt.Errorf("snapshot %+v, want %+v or %+v", of, before.snap, after.snap)
	} else if of == after.snap {
		before.snap = of // for settled
	}
	if got := span(logs); strings.HasPrefix(got, "entry") {
		return errors.New(got)
	}
	err := logFits(logs, before.settled(), after)
	if err != nil {
		err = errors.Join(err, logFits(logs, after.settled(), after))
		if logFits(logs, after.settled(), after) == nil {
			return nil
		}
	}
	return err
}

// logFits wants the entries of h, and allows older ones, and a beginning of
// what next has behind them.
func logFits(logs []*raft.Log, h, next held) error {
	has := map[uint64]uint64{}
	for _, log := range logs {
		has[log.Index] = log.Term
	}
	for i, term := range h.logs {
		if index := uint64(h.first + i); has[index] != term {
			return fmt.Errorf("entry %d of term %d is missing", index, term)
		}
		delete(has, uint64(h.first+i))
	}
	for index, term := range has {
		if i := int(index) - next.first; index >= uint64(h.first) && (i < 0 || i >= len(next.logs) || next.logs[i] != term) {
			return fmt.Errorf("entry %d of term %d should not be there", index, term)
		}
	}
	return nil
}

// crashAt opens what a crash leaves and holds it against the script.
func (c *script) crashAt(n int, keep disktest.Keep) error {
	before, after := c.around(n)
	disk := c.fsys.Crash(n, keep)
	s, err := Open(config(disk))
	if n < c.after[0] && errors.Is(err, ErrNone) {
		if s, err = Create(config(disk)); err != nil {
			return fmt.Errorf("make it again: %w", err)
		}
	}
	if err != nil {
		return err
	}
	logs := replay(c.t, s)
	if err := fits(s, logs, before, after); err != nil {
		s.Close()
		return err
	}
	// It goes on, and what it does then outlives a crash in turn.
	_, last := s.Last()
	more := entries(last+1, last+3, 1000)
	if err := s.StoreLogs(more); err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	ops := len(disk.Ops())
	if err := s.Close(); err != nil {
		return err
	}
	again := disk.Crash(ops, keep)
	if s, err = Open(config(again)); err != nil {
		return fmt.Errorf("second crash: %w", err)
	}
	defer s.Close()
	if _, index := s.Last(); index != last+3 {
		return fmt.Errorf("second crash: the log ends at %d, it reached %d", index, last+3)
	}
	return nil
}

// around returns what held before and after the call that operation n is of.
func (c *script) around(n int) (before, after held) {
	before = held{first: 1}
	for i, at := range c.after {
		if at > n {
			return before, c.state[i]
		}
		before = c.state[i]
	}
	return before, before
}

// After a power cut at any moment, with anything kept of what was under way,
// everything acknowledged is there, nothing else is, and the log goes on.
func TestEveryCrashKeepsWhatWasAcknowledged(t *testing.T) {
	crashes := 0
	for seed := range uint64(seeds()) {
		c := newScript(t, seed)
		c.run(25)
		ops := len(c.fsys.Ops())
		for n := c.made; n <= ops; n++ {
			keeps := map[string]disktest.Keep{"nothing": disktest.Nothing(),
				"some": disktest.Some(rand.New(rand.NewPCG(seed, uint64(n))).IntN)}
			if n%4 == 0 {
				keeps["everything"] = disktest.Everything()
			}
			for name, keep := range keeps {
				if err := c.crashAt(n, keep); err != nil {
					t.Fatalf("seed %d, crash after %d of %d operations, %s kept: %v", seed, n, ops, name, err)
				}
				crashes++
			}
		}
		must(t, c.store.Close())
	}
	t.Logf("%d crashes", crashes)
}

// A crash while the store recovers from a crash.
func TestACrashDuringRecoveryLosesNothing(t *testing.T) {
	for seed := range uint64(seeds()) {
		c := newScript(t, seed)
		c.run(25)
		rnd := rand.New(rand.NewPCG(seed, 2))
		for range 40 {
			n := c.after[0] + rnd.IntN(len(c.fsys.Ops())-c.after[0]+1)
			before, after := c.around(n)
			disk := c.fsys.Crash(n, disktest.Some(rnd.IntN))
			from := len(disk.Ops())
			s, err := Open(config(disk))
			if err != nil {
				t.Fatalf("seed %d, operation %d: %v", seed, n, err)
			}
			recovered := len(disk.Ops())
			must(t, s.Close())
			for at := from; at <= recovered; at++ {
				s, err := Open(config(disk.Crash(at, disktest.Some(rnd.IntN))))
				if err != nil {
					t.Fatalf("seed %d, operation %d, then %d of recovery: %v", seed, n, at-from, err)
				}
				if err := fits(s, replay(t, s), before, after); err != nil {
					t.Fatalf("seed %d, operation %d, then %d of recovery: %v", seed, n, at-from, err)
				}
				must(t, s.Close())
			}
		}
		must(t, c.store.Close())
	}
}

// seeds returns how many worlds to try.
func seeds() int {
	if testing.Short() || raceDetector {
		return 1
	}
	return 4
}
