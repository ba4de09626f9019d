package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Bounds are what a history is checked with.
type Bounds struct {
	// Lease is how old an answer by lease may be, by the clock of the history.
	Lease time.Duration
	// Patience is how long to look for an order for one subject. 0: a minute.
	Patience time.Duration
}

// Fault is a subject whose operations a model can't explain.
type Fault struct {
	Subject int
	Model   Model
	What    string // with every operation of the subject, in the order of their calls
}

func (f Fault) String() string { return fmt.Sprintf("subject %d, %v: %s", f.Subject, f.Model, f.What) }

// Check returns what no order of the operations explains, by subject and
// model. An operation that is malformed is a fault too, and so is a search that
// came to no end.
//
// Each version must be written once, and no subject be absent again.
func Check(ops []Operation, b Bounds) (faults []Fault) {
	if b.Patience == 0 {
		b.Patience = time.Minute
	}
	bySubject := make(map[int][]Operation)
	for _, op := range ops {
		bySubject[op.Subject] = append(bySubject[op.Subject], op)
	}
	for subject, ops := range bySubject {
		slices.SortStableFunc(ops, func(x, y Operation) int { return cmp.Compare(x.Call, y.Call) })
		what := malformed(ops)
		for _, m := range []Model{Register, Lease} {
			if what == "" {
				what = m.check(ops, b)
			}
			if what != "" {
				faults = append(faults, Fault{subject, m, what + "\n" + tell(ops)})
				break
			}
		}
	}
	slices.SortFunc(faults, func(x, y Fault) int { return cmp.Compare(x.Subject, y.Subject) })
	return faults
}

func tell(ops []Operation) string {
	var text strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&text, "    %v\n", op)
	}
	return text.String()
}

// malformed tells what is no history at all.
func malformed(ops []Operation) string {
	written := make(map[State]bool)
	for _, op := range ops {
		bad := ""
		switch {
		case op.Verb < Write || op.Verb > LeaseRead:
			bad = "no verb"
		case op.Call > op.Return:
			bad = "over before it began"
		case op.Verb != Write && (op.Swap || op.Barrier || op.Return == Never):
			bad = "not something to note of a read"
		case op.Verb == Write && (op.State == Absent || op.State == Gone):
			bad = "not something to write"
		case op.Verb == Write && op.State != Erased && written[op.State]:
			bad = "written twice"
		case op.Barrier && op.Index == 0 && op.Return != Never:
			bad = "a barrier without an index"
		}
		if bad != "" {
			return fmt.Sprintf("%s: %v", bad, op)
		}
		written[op.State] = written[op.State] || op.Verb == Write
	}
	return ""
}

// check looks for an order of the operations that count for a model, and names
// the first read after which there is none any more.
func (m Model) check(ops []Operation, b Bounds) string {
	steps := m.steps(ops, b)
	switch decide(steps, b.Patience) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("no order found within %v, nor that there is none", b.Patience)
	}
	var writes, reads []porcupine.Operation
	for _, s := range steps {
		if s.Input.(step).write {
			writes = append(writes, s)
		} else {
			reads = append(reads, s)
		}
	}
	slices.SortStableFunc(reads, func(x, y porcupine.Operation) int { return cmp.Compare(x.Return, y.Return) })
	n := sort.Search(len(reads), func(n int) bool { return decide(slices.Concat(writes, reads[:n]), b.Patience) != porcupine.Ok })
	if n == 0 {
		return "no order explains the writes"
	}
	return fmt.Sprintf("nothing explains %v", ops[reads[n-1].Input.(step).op])
}

// steps returns the operations that count for a model, each with the time in
// which it must have taken place.
func (m Model) steps(ops []Operation, b Bounds) []porcupine.Operation {
	var steps []porcupine.Operation
	known := knownOf(ops)
	for i, op := range ops {
		s := step{state: op.State, op: i}
		call := op.Call
		switch {
		case op.Verb == Write:
			s.write, s.known, s.swap, s.from, s.index = true, op.Return != Never, op.Swap, op.From, op.Index
			if !s.known {
				s.index = 0
			}
		case m == Register && op.Verb == Read:
			s.need = known.needed(op)
		case m == Lease && op.Verb == LeaseRead:
			s.need = known.needed(op)
			call -= b.Lease
			if known.erased < op.Call { // for good: a read that begins later takes place later
				call = max(call, known.erased+1)
			}
		default:
			continue
		}
		if s.state == Gone && s.need > 0 {
			s.state = Erased // absent is before every write
		}
		steps = append(steps, porcupine.Operation{Input: s, Call: int64(call), Return: int64(op.Return)})
	}
	return steps
}

// known is what writes were acknowledged: their indexes in ascending order, of
// erasures only the first; those that were barriers; when the first erasure was.
type known struct {
	indexes  []uint64
	barriers []Operation
	erased   time.Duration
}

func knownOf(ops []Operation) known {
	k := known{erased: Never}
	first := uint64(math.MaxUint64)
	for _, op := range ops {
		switch {
		case op.Verb != Write || op.Return == Never:
		case op.State == Erased:
			k.erased, first = min(k.erased, op.Return), min(first, op.Index)
		default:
			k.indexes = append(k.indexes, op.Index)
			if op.Barrier {
				k.barriers = append(k.barriers, op)
			}
		}
	}
	if first != math.MaxUint64 {
		k.indexes = append(k.indexes, first)
	}
	slices.Sort(k.indexes)
	return k
}

// needed returns the index of the last write that a read may not miss: because
// it waited for it or a later one of the shard, or because it removed
// something and had been acknowledged.
func (k known) needed(read Operation) (index uint64) {
	i, found := slices.BinarySearch(k.indexes, read.Index)
	if found {
		index = read.Index
	} else if i > 0 {
		index = k.indexes[i-1]
	}
	for _, b := range k.barriers {
		if b.Return < read.Call {
			index = max(index, b.Index)
		}
	}
	return index
}

// decide looks for an order of the steps.
//
// Reads that saw a subject gone saw it absent or erased. It is absent before
// some moment and erased after a later one, so those that returned early and
// were called early saw it absent, the others erased: of those that matter
// (see frontier) the first few, and as many as can be, if that leaves room for
// the others.
func decide(steps []porcupine.Operation, patience time.Duration) porcupine.CheckResult {
	var rest, gone []porcupine.Operation
	for _, o := range steps {
		if s := o.Input.(step); s.state == Gone {
			gone = append(gone, o)
		} else {
			rest = append(rest, o)
		}
	}
	gone = frontier(gone)
	end := time.Now().Add(patience)
	try := func(absent, erased []porcupine.Operation) porcupine.CheckResult {
		left := time.Until(end)
		if left <= 0 {
			return porcupine.Unknown
		}
		return search(thin(slices.Concat(rest, as(Absent, absent), as(Erased, erased))), left)
	}
	absent := sort.Search(len(gone), func(i int) bool { return try(gone[:i+1], nil) != porcupine.Ok })
	result := porcupine.Illegal
	for ; absent >= 0; absent-- {
		switch r := try(gone[:absent], gone[absent:]); r {
		case porcupine.Ok:
			return r
		case porcupine.Unknown:
			result = r
		}
	}
	return result
}

// as returns the reads as if they had seen a state.
func as(state State, reads []porcupine.Operation) []porcupine.Operation {
	reads = slices.Clone(reads)
	for i := range reads {
		s := reads[i].Input.(step)
		s.state = state
		reads[i].Input = s
	}
	return reads
}

// frontier leaves out the reads of a subject that was gone which another one
// implies: it was called later and returned earlier. What is left is in the
// order of both.
func frontier(gone []porcupine.Operation) (kept []porcupine.Operation) {
	slices.SortStableFunc(gone, func(x, y porcupine.Operation) int {
		return cmp.Or(cmp.Compare(x.Return, y.Return), cmp.Compare(y.Call, x.Call))
	})
	for _, o := range gone {
		if len(kept) == 0 || o.Call > kept[len(kept)-1].Call {
			kept = append(kept, o)
		}
	}
	return kept
}

// zone is what must be kept of the reads that saw one state.
type zone struct{ first, last, deep int } // the one that returned first, was called last, needs most

// thin leaves out what makes no difference and would only lengthen the search.
//
// Whatever is seen held from one moment on to another one, once: versions are
// written once, absent is the first state and erased the last. So of all reads
// that saw it, the one that returned first bounds its beginning, the one that
// was called last bounds its end, and the one that needs the highest index says
// what must have come before it (Gibbons and Korach, "Testing shared memories",
// 1997). An unanswered write of what nobody saw need not have taken place.
func thin(steps []porcupine.Operation) []porcupine.Operation {
	zones := make(map[State]zone)
	relied := map[State]bool{Erased: true}
	for i, o := range steps {
		s := o.Input.(step)
		if s.write {
			relied[s.from] = relied[s.from] || s.swap
			continue
		}
		relied[s.state] = true
		z, seen := zones[s.state]
		if !seen || o.Return < steps[z.first].Return {
			z.first = i
		}
		if !seen || o.Call > steps[z.last].Call {
			z.last = i
		}
		if !seen || s.need > steps[z.deep].Input.(step).need {
			z.deep = i
		}
		zones[s.state] = z
	}
	var kept []porcupine.Operation
	for i, o := range steps {
		s := o.Input.(step)
		z := zones[s.state]
		if s.write && (s.known || relied[s.state]) || !s.write && (i == z.first || i == z.last || i == z.deep) {
			kept = append(kept, o)
		}
	}
	return kept
}
