package history

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The short forms of the tests below; moments are whole units, a lease lasts ten.
func write(call, ret time.Duration, state State, index uint64) Operation {
	return Operation{Verb: Write, State: state, Call: call, Return: ret, Index: index}
}

func unanswered(call time.Duration, state State) Operation { return write(call, Never, state, 0) }

func swap(call, ret time.Duration, from, state State, index uint64) Operation {
	op := write(call, ret, state, index)
	op.Swap, op.From = true, from
	return op
}

func barrier(call, ret time.Duration, state State, index uint64) Operation {
	op := write(call, ret, state, index)
	op.Barrier = true
	return op
}

func read(call, ret time.Duration, state State) Operation {
	return Operation{Verb: Read, State: state, Call: call, Return: ret}
}

func lease(call, ret time.Duration, state State, index uint64) Operation {
	return Operation{Verb: LeaseRead, State: state, Call: call, Return: ret, Index: index}
}

const length = 10

func TestHistoriesThatAreFine(t *testing.T) {
	for name, ops := range map[string][]Operation{
		"nothing":                          {},
		"one after the other":              {write(1, 2, 1, 5), read(3, 4, 1), write(5, 6, 2, 6), read(7, 8, 2)},
		"beside each other":                {write(1, 9, 1, 0), write(1, 9, 2, 0), read(2, 3, 1), read(4, 5, 2)},
		"absent until written":             {read(1, 5, Absent), write(4, 6, 1, 0), read(5, 6, 1)},
		"erased for good":                  {write(1, 2, 1, 1), write(3, 4, Erased, 2), read(5, 6, Erased), write(7, 8, Erased, 9), read(9, 10, Erased)},
		"unanswered and done":              {unanswered(1, 1), read(50, 51, 1)},
		"unanswered and not done":          {unanswered(1, 1), read(50, 51, Absent)},
		"unanswered and done in between":   {unanswered(1, 1), read(2, 3, Absent), read(4, 5, 1)},
		"unanswered erasure":               {write(1, 2, 1, 1), unanswered(3, Erased), read(4, 5, 1), read(6, 7, Erased)},
		"unanswered write onto erased":     {write(1, 2, Erased, 1), unanswered(1, 1), read(3, 4, Erased)},
		"swap":                             {write(1, 2, 1, 1), swap(3, 4, 1, 2, 2), read(5, 6, 2)},
		"unanswered swap that was refused": {write(1, 2, 1, 1), unanswered(3, 3), Operation{Verb: Write, Swap: true, From: 3, State: 4, Call: 3, Return: Never}, read(4, 5, 1)},
		"gone before and after":            {read(1, 2, Gone), write(3, 4, 1, 1), write(5, 6, Erased, 2), read(7, 8, Gone)},
		"old by less than a lease":         {write(1, 2, 1, 1), write(20, 21, 2, 2), lease(30, 40, 1, 0)},
		"back and forth under leases":      {write(1, 2, 1, 1), write(20, 21, 2, 2), lease(22, 23, 2, 0), lease(24, 25, 1, 0)},
		"index of what it saw":             {write(1, 2, 1, 1), write(3, 4, 2, 2), lease(5, 6, 1, 1)},
		"index of another subject":         {write(1, 2, 1, 1), write(3, 4, 2, 5), lease(5, 6, 1, 4)},
		"what an index leads to is old":    {write(1, 9, 1, 1), write(2, 3, 2, 2), lease(10, 11, 1, 1)},
		"removed field, then old":          {write(1, 2, 1, 1), barrier(3, 9, 2, 2), write(4, 5, 3, 3), lease(10, 11, 2, 0)},
		"erasure on its way":               {write(1, 2, 1, 1), write(3, 20, Erased, 2), lease(19, 30, 1, 0)},
		"erased twice":                     {write(1, 2, 1, 1), write(3, 4, Erased, 2), write(5, 6, Erased, 9), lease(7, 8, Erased, 9)},
	} {
		if faults := Check(ops, Bounds{Lease: length}); len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func TestHistoriesThatAreNot(t *testing.T) {
	for name, c := range map[string]struct {
		model Model
		ops   []Operation
	}{
		"stale":                         {Register, []Operation{write(1, 2, 1, 1), write(3, 4, 2, 2), read(5, 6, 1)}},
		"seen and unseen":               {Register, []Operation{write(1, 9, 1, 1), read(2, 3, 1), read(4, 5, Absent)}},
		"seen before it was written":    {Register, []Operation{read(1, 2, 1), write(3, 4, 1, 1)}},
		"seen and never written":        {Register, []Operation{read(1, 2, 7)}},
		"absent again":                  {Register, []Operation{write(1, 2, 1, 1), read(3, 4, Absent)}},
		"gone while there":              {Register, []Operation{write(1, 2, 1, 1), read(3, 4, Gone), write(5, 6, Erased, 2)}},
		"lost":                          {Register, []Operation{write(1, 2, 1, 1), unanswered(1, 2), read(5, 6, Absent)}},
		"alive after its erasure":       {Register, []Operation{write(1, 2, 1, 1), write(3, 4, Erased, 2), read(5, 6, 1)}},
		"written after its erasure":     {Register, []Operation{write(3, 4, Erased, 2), write(5, 6, 1, 3)}},
		"two swaps of one":              {Register, []Operation{write(1, 2, 1, 1), swap(3, 9, 1, 2, 0), swap(3, 9, 1, 3, 0)}},
		"log and time disagree":         {Register, []Operation{write(1, 2, 1, 6), write(3, 4, 2, 5)}},
		"one order for each reader":     {Register, []Operation{write(1, 20, 1, 0), write(1, 20, 2, 0), read(2, 3, 1), read(4, 5, 2), read(6, 7, 1)}},
		"older than a lease":            {Lease, []Operation{write(1, 2, 1, 1), write(20, 21, 2, 2), lease(32, 33, 1, 0)}},
		"out of the future":             {Lease, []Operation{lease(1, 2, 1, 0), write(3, 4, 1, 1)}},
		"backwards with an index":       {Lease, []Operation{write(1, 2, 1, 1), write(20, 21, 2, 2), lease(22, 23, 1, 2)}},
		"backwards with a later index":  {Lease, []Operation{write(1, 2, 1, 1), write(20, 21, 2, 2), lease(22, 23, 1, 9)}},
		"never written, with an index":  {Lease, []Operation{write(1, 2, 1, 1), unanswered(1, 2), swap(3, 4, 2, 3, 3), lease(5, 6, 2, 3)}},
		"a removed field":               {Lease, []Operation{write(1, 2, 1, 1), barrier(3, 4, 2, 2), write(4, 5, 3, 3), lease(6, 7, 1, 0)}},
		"erased and seen within L":      {Lease, []Operation{write(1, 2, 1, 1), write(3, 4, Erased, 2), lease(5, 6, 1, 0)}},
		"erased and absent":             {Lease, []Operation{write(1, 2, 1, 1), write(3, 4, Erased, 2), lease(5, 6, Absent, 0)}},
		"gone while there, under lease": {Lease, []Operation{write(1, 2, 1, 1), write(30, 31, Erased, 2), lease(20, 21, Gone, 0)}},
	} {
		faults := Check(c.ops, Bounds{Lease: length})
		if len(faults) != 1 || faults[0].Model != c.model {
			t.Errorf("%s: got %v, want a fault of the model %v", name, faults, c.model)
		}
	}
}

// The models are apart: what is fine under a lease is a lie if it was called
// linearizable.
func TestALeaseExcusesNoOtherRead(t *testing.T) {
	ops := []Operation{write(1, 2, 1, 1), write(3, 4, 2, 2), read(5, 6, 1)}
	if len(Check(ops, Bounds{Lease: length})) == 0 {
		t.Error("a linearizable read was taken for one under a lease")
	}
	ops[2].Verb = LeaseRead
	if faults := Check(ops, Bounds{Lease: length}); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestWhatIsNoHistory(t *testing.T) {
	for name, ops := range map[string][]Operation{
		"no verb":                    {{State: 1}},
		"ended before it began":      {read(3, 2, Absent)},
		"two writes of one version":  {write(1, 2, 1, 1), write(3, 4, 1, 2)},
		"made absent":                {write(1, 2, Absent, 1)},
		"made gone":                  {write(1, 2, Gone, 1)},
		"a read without an answer":   {read(1, Never, 1)},
		"a barrier without an index": {barrier(1, 2, 1, 0)},
	} {
		if faults := Check(ops, Bounds{}); len(faults) != 1 {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func TestAFaultNamesTheRead(t *testing.T) {
	ops := []Operation{write(1, 2, 1, 1), write(3, 4, Erased, 2), lease(5, 6, Erased, 0), lease(7, 8, 1, 0)}
	ops[3].Note, ops[3].Subject = "c3 at n2", 0
	faults := Check(append(ops, Operation{Subject: 1, Verb: Write, State: 5, Call: 1, Return: 2}), Bounds{Lease: length})
	if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), "subject 0, lease: nothing explains 7ns..8ns read by lease v1 (c3 at n2)\n") {
		t.Error(faults)
	}
}

// Moments are in the order of the calls even while the clock stands still.
func TestNoTwoMomentsAreEqual(t *testing.T) {
	h := New(func() time.Duration { return 5 })
	var seen sync.Map
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() { // ends after so many calls
			last := time.Duration(0)
			for range 100 {
				now := h.Now()
				if _, twice := seen.LoadOrStore(now, true); twice || now <= last {
					t.Errorf("%v after %v, or twice", now, last)
				}
				last = now
				h.Add(read(now, h.Now(), Absent))
			}
		})
	}
	running.Wait()
	if n := len(h.Operations()); n != 400 || len(h.Check(Bounds{})) > 0 {
		t.Errorf("%d operations", n)
	}
}

// world makes random short histories: of a register that keeps its promises,
// or, if it lies, shows states of any time.
func world(rng *rand.Rand, lies bool) (ops []Operation) {
	var states []State // by index
	var since []time.Duration
	states, since = append(states, Absent), append(since, -1000)
	now := time.Duration(0)
	for i := range 3 + rng.IntN(10) {
		call := now + time.Duration(rng.IntN(4))
		at := call + time.Duration(rng.IntN(6))
		ret := at + time.Duration(rng.IntN(6))
		now = at
		last := states[len(states)-1]
		if rng.IntN(3) == 0 && last != Erased {
			op := write(call, ret, State(i+1), uint64(len(states)))
			if rng.IntN(5) == 0 {
				op.State = Erased
			} else if rng.IntN(3) == 0 {
				op.Swap, op.From = true, last
			}
			if rng.IntN(4) == 0 {
				op.Return, op.Index = Never, 0
			}
			states, since = append(states, op.State), append(since, at)
			ops = append(ops, op)
			continue
		}
		op := read(call, ret, last)
		if rng.IntN(2) == 0 {
			op = lease(call, ret, last, uint64(rng.IntN(len(states))))
			k := len(states) - 1 // what held within the lease, and has the index
			for k > int(op.Index) && since[k] > at-length && states[k] != Erased && rng.IntN(2) == 0 {
				k--
			}
			op.State = states[k]
		}
		if lies && rng.IntN(3) == 0 {
			op.State = states[rng.IntN(len(states))]
		}
		if (op.State == Absent || op.State == Erased) && rng.IntN(2) == 0 {
			op.State = Gone
		}
		ops = append(ops, op)
	}
	return ops
}

// plainly asks porcupine without anything that shortens the search.
func plainly(steps []porcupine.Operation) bool {
	return porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			r, s := state.(register), input.(step)
			r.owed, s.reads = 0, 0
			next, fits := r.take(s)
			next.owed = 0
			return fits, next
		},
	}, steps)
}

// What shortens the search must not change the verdict.
func TestShortcutsChangeNothing(t *testing.T) {
	seed, bad := rand.Uint64(), 0
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 5000 {
		lies := rng.IntN(2) == 0
		ops := world(rng, lies)
		for _, m := range []Model{Register, Lease} {
			steps := m.steps(ops, Bounds{Lease: length})
			whole := plainly(steps)
			if quick := decide(steps, time.Minute) == porcupine.Ok; quick != whole {
				t.Fatalf("%v: %v, thinned %v:\n%s", m, whole, quick, tell(ops))
			}
			if !whole {
				bad++
			}
			if !whole && !lies {
				t.Fatalf("%v finds a fault where there is none:\n%s", m, tell(ops))
			}
		}
	}
	if bad < 500 {
		t.Errorf("only %d histories were bad", bad)
	}
}

// A lease of three seconds puts hundreds of operations beside each other.
func TestLongHistoriesTakeNoTime(t *testing.T) {
	var ops []Operation
	for i := range time.Duration(1000) {
		ops = append(ops, write(10*i, 10*i+15, State(i+1), uint64(i+1)), read(10*i+16, 10*i+17, State(i+1)))
		for back := range min(i, 30) {
			ops = append(ops, lease(10*i+16, 10*i+17, State(i-back), uint64(i-back)))
		}
		if i%10 == 0 {
			ops = append(ops, unanswered(10*i, State(100000+i)))
		}
	}
	begin := time.Now()
	if faults := Check(ops, Bounds{Lease: 300}); len(faults) > 0 {
		t.Error(faults[0].What[:200])
	}
	ops = append(ops, lease(10200, 10201, 900, 0))
	if faults := Check(ops, Bounds{Lease: 300}); len(faults) != 1 || !strings.Contains(faults[0].What, fmt.Sprintf("read by lease v%d", 900)) {
		t.Error("the stale read is not found")
	}
	t.Logf("%d operations, twice: %v", len(ops), time.Since(begin))
}

// Answers that do not tell absent from erased once had the search try every
// order of hundreds of them.
func TestManyReadsOfGone(t *testing.T) {
	var ops []Operation
	for i := range time.Duration(300) {
		ops = append(ops, lease(10*i, 10*i+25, Gone, 0), lease(9000+10*i, 9000+10*i+25, Gone, 0))
	}
	for i := range time.Duration(30) {
		ops = append(ops, write(3000+100*i, 3000+100*i+150, State(i+1), uint64(i+1)), lease(3000+100*i, 3000+100*i+170, State(i+1), 0))
	}
	ops = append(ops, write(6200, 8990, Erased, 31), write(7000, 8995, Erased, 32))
	b := Bounds{Lease: 20000, Patience: 10 * time.Second}
	begin := time.Now()
	if faults := Check(ops, b); len(faults) > 0 {
		t.Errorf("%v...", faults[0].What[:80])
	}
	for name, lie := range map[string]Operation{
		"alive after its erasure": lease(9100, 9101, 30, 0),
		"gone in its middle":      read(4000, 4001, Gone),
		"gone, with an index":     lease(4000, 4001, Gone, 5),
	} {
		if faults := Check(append(ops[:len(ops):len(ops)], lie), b); len(faults) != 1 || !strings.HasPrefix(faults[0].What, "nothing explains "+lie.String()) {
			t.Errorf("%s: not found, or another one named", name)
		}
	}
	t.Logf("%d operations, four times: %v", len(ops), time.Since(begin))
}
