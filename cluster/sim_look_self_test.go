package cluster

import (
	"testing"
	"time"
)

// Reads under leases, against one deposit, a replacement five seconds later and
// an erasure five seconds after that, which settled at 12 s.
func TestLooksThatCanOrCannotBe(t *testing.T) {
	at := func(seconds float64) int64 { return int64(seconds * float64(time.Second)) }
	for name, test := range map[string]struct {
		look simLook
		bad  bool
	}{
		"before anything":                 {simLook{state: simAbsent, call: at(0.5)}, false},
		"the deposit":                     {simLook{state: 1, call: at(2), entry: 1}, false},
		"the deposit before it was made":  {simLook{state: 1, call: at(0.1), entry: 1}, true},
		"absent within the term":          {simLook{state: simAbsent, call: at(3.5)}, false},
		"absent too late":                 {simLook{state: simAbsent, call: at(4.5)}, true},
		"absent, but waited":              {simLook{state: simAbsent, call: at(2), after: 3}, true},
		"the deposit, having waited":      {simLook{state: 1, call: at(2), after: 1, entry: 1}, false},
		"old within the term":             {simLook{state: 1, call: at(8.5), entry: 1}, false},
		"old too late":                    {simLook{state: 1, call: at(9.5), entry: 1}, true},
		"old at an answer too late":       {simLook{state: 1, call: at(8.5), answered: at(9.5), alone: true, entry: 1}, true},
		"old, but waited":                 {simLook{state: 1, call: at(7), after: 5, entry: 1}, true},
		"never written":                   {simLook{state: 7, call: at(7), entry: 4}, true},
		"refused":                         {simLook{state: 8, call: at(7), entry: 4}, true},
		"a value before it is settled":    {simLook{state: 2, call: at(11.5), entry: 5}, false},
		"a value after":                   {simLook{state: 2, call: at(12.5), entry: 5}, true},
		"a value asked for before":        {simLook{state: 2, call: at(11.9), entry: 5}, false},
		"erased after":                    {simLook{state: simErased, call: at(12.5), after: 9}, false},
		"erased before anybody asked":     {simLook{state: simErased, call: at(8)}, true},
		"a value, but waited for its end": {simLook{state: 2, call: at(11.5), after: 9, entry: 5}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSimHistory()
			h.ops = []simOp{wrote(1, at(1), at(1.1)), wrote(2, at(6), at(6.1)), wrote(simErased, at(11), at(11.1))}
			h.acked = []simAck{{state: 1, index: 1}, {state: 2, index: 5}, {state: simErased, index: 9}}
			h.settled[0] = at(12)
			h.erasures = []simErasure{{call: at(11), ret: at(12), index: 9}}
			h.void[simVersion{0, 8}] = "refused"
			test.look.ret = max(test.look.call, test.look.answered) + at(0.2)
			h.looks = []simLook{test.look}
			faults := h.check()
			if got := len(faults) > 0; got != test.bad {
				t.Errorf("bad %v, want %v: %v", got, test.bad, faults)
			}
			if told := h.explain(); !test.look.alone && len(told) > 0 != test.bad {
				t.Errorf("porcupine: bad %v, want %v: %v", len(told) > 0, test.bad, told)
			}
		})
	}
}
