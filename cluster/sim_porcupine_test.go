package cluster

import (
	"slices"
	"time"

	"cloakroom/internal/history"
)

// told returns the operations as package history takes them: an erasure counts
// as acknowledged once it has settled.
func (h *simHistory) told() []history.Operation {
	indexes := make(map[simVersion]uint64)
	for _, a := range h.acked {
		indexes[simVersion{a.subject, a.state}] = a.index
	}
	var ops []history.Operation
	for _, op := range h.ops {
		o := history.Operation{Subject: op.subject, Verb: history.Read, State: history.State(op.state),
			Call: time.Duration(op.call), Return: time.Duration(op.ret), Note: op.note}
		if op.write {
			o.Verb = history.Write
			o.Index = indexes[simVersion{op.subject, op.state}]
			if op.state == simErased {
				o.Return, o.Index = history.Never, 0
			}
		}
		ops = append(ops, o)
	}
	for _, e := range h.erasures {
		ops = append(ops, history.Operation{Subject: e.subject, Verb: history.Write, State: history.Erased,
			Call: time.Duration(e.call), Return: time.Duration(e.ret), Index: e.index, Note: e.note})
	}
	for _, l := range h.looks {
		ops = append(ops, history.Operation{Subject: l.subject, Verb: history.LeaseRead, State: history.State(l.state),
			Call: time.Duration(l.call), Return: time.Duration(l.ret), Index: l.after, Note: l.note})
	}
	return ops
}

// explain asks porcupine for an order that explains the history, by both
// models. It knows nothing of zones, nor of an age that counts to the answer.
func (h *simHistory) explain() (faults []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range history.Check(h.told(), history.Bounds{Lease: simLease, Patience: 10 * time.Second}) {
		faults = append(faults, f.String())
	}
	return slices.Compact(faults)
}
