package cluster

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func wrote(s simState, call, ret int64) simOp {
	return simOp{state: s, write: true, call: call, ret: ret}
}
func saw(s simState, call, ret int64) simOp { return simOp{state: s, call: call, ret: ret} }

func TestHistoriesThatCanOrCannotBe(t *testing.T) {
	for name, test := range map[string]struct {
		ops []simOp
		bad bool
	}{
		"nothing":                          {nil, false},
		"read your write":                  {[]simOp{wrote(1, 1, 2), saw(1, 3, 4)}, false},
		"lost write":                       {[]simOp{wrote(1, 1, 2), saw(simAbsent, 3, 4)}, true},
		"write under way":                  {[]simOp{wrote(1, 1, 5), saw(simAbsent, 2, 4)}, false},
		"old value after new":              {[]simOp{wrote(1, 1, 2), wrote(2, 3, 4), saw(1, 5, 6)}, true},
		"new then old":                     {[]simOp{wrote(1, 1, 2), wrote(2, 3, never), saw(2, 4, 5), saw(1, 6, 7)}, true},
		"unknown write seen late":          {[]simOp{wrote(1, 1, never), wrote(2, 2, 3), saw(2, 4, 5), saw(1, 6, 7)}, false},
		"unknown write seen, gone, seen":   {[]simOp{wrote(1, 1, never), saw(1, 2, 3), wrote(2, 4, 5), saw(1, 6, 7)}, true},
		"from the future":                  {[]simOp{saw(1, 1, 2), wrote(1, 3, 4)}, true},
		"erased and seen":                  {[]simOp{wrote(1, 1, 2), wrote(simErased, 3, 4), saw(1, 5, 6)}, true},
		"erased and absent":                {[]simOp{wrote(1, 1, 2), wrote(simErased, 3, 4), saw(simAbsent, 5, 6)}, true},
		"erased twice":                     {[]simOp{wrote(1, 1, 2), wrote(simErased, 3, 4), wrote(simErased, 5, 6), saw(simErased, 7, 8)}, false},
		"written after the erasure":        {[]simOp{wrote(simErased, 3, 4), wrote(1, 5, 6)}, true},
		"erasure unknown":                  {[]simOp{wrote(1, 1, 2), wrote(simErased, 3, never), saw(1, 5, 6)}, false},
		"erasure unknown, then seen":       {[]simOp{wrote(1, 1, 2), wrote(simErased, 3, never), saw(simErased, 5, 6), saw(1, 7, 8)}, true},
		"compare and swap of an old value": {[]simOp{wrote(1, 1, 2), wrote(2, 3, 4), saw(1, 5, 6), wrote(3, 5, 6)}, true},
	} {
		fault := disorder(test.ops)
		if (fault != "") != test.bad {
			t.Errorf("%s: got %q", name, fault)
		}
	}
}

// possible tries all orders of the operations.
func possible(ops []simOp, now simState) bool {
	if !slices.ContainsFunc(ops, func(op simOp) bool { return op.ret != never }) {
		return true // what got no answer need not have happened
	}
	for i, op := range ops {
		early := !slices.ContainsFunc(ops, func(other simOp) bool { return other.ret < op.call })
		if !early || !op.write && op.state != now || op.write && now == simErased && op.state != simErased {
			continue
		}
		if possible(slices.Delete(slices.Clone(ops), i, i+1), op.state) {
			return true
		}
	}
	return false
}

// The rule of zones agrees with trying all orders.
func TestHistoryCheckerAgreesWithAllOrders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "operations")
		moments := rapid.Permutation(slices.Collect(func(yield func(int64) bool) {
			for i := range int64(2 * n) {
				if !yield(i + 1) {
					return
				}
			}
		})).Draw(t, "moments")
		var ops []simOp
		next := simState(1)
		for i := range n {
			call, ret := min(moments[2*i], moments[2*i+1]), max(moments[2*i], moments[2*i+1])
			kind := rapid.IntRange(0, 9).Draw(t, "kind")
			switch {
			case kind < 4:
				ops = append(ops, wrote(next, call, ret))
				next++
			case kind == 4:
				ops = append(ops, wrote(simErased, call, ret))
			case kind == 5:
				ops = append(ops, saw(simErased, call, ret))
			default:
				ops = append(ops, saw(simState(rapid.IntRange(0, 3).Draw(t, "seen")), call, ret))
			}
			if op := &ops[i]; op.write && rapid.IntRange(0, 3).Draw(t, "unknown") == 0 {
				op.ret = never
			}
		}
		if got, want := disorder(ops) == "", possible(ops, simAbsent); got != want {
			t.Fatalf("got %v, want %v (%s) for\n%s", got, want, disorder(ops), tellOps(ops))
		}
	})
}
