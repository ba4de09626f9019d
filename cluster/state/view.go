package state

import (
	"cloakroom/securemem"
)

// View is the state at one moment, for a snapshot. While it lives, the machine
// goes on: what the view refers to is copied before it is changed, and slots
// that are freed stay as they are. Its methods are for one goroutine.
type View struct {
	machine  *Machine
	segments []*segment // held; in token order
	header   header
}

// Snapshot returns a view of the state. It copies references, about one for
// each 10,000 records. It fails only on a machine that stopped.
func (m *Machine) Snapshot() (*View, error) {
	m.turn.Lock() // between entries, never inside one
	defer m.turn.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return nil, m.failed
	}
	v := &View{machine: m, segments: m.index.segments(nil), header: m.header()}
	for _, s := range v.segments {
		s.holders++
	}
	m.views++
	return v, nil
}

// Applied returns the log index of the last entry in the view.
func (v *View) Applied() uint64 { return v.header.applied }

// Counts returns how many records are in the view, how many subjects are
// living and how many marks of erased ones there are.
func (v *View) Counts() (records, living, erased uint64) {
	return v.header.records, v.header.living, v.header.erased
}

// Release ends the view. A second Release does nothing.
func (v *View) Release() {
	m := v.machine
	m.mu.Lock()
	for _, s := range v.segments {
		m.index.release(s)
	}
	if v.segments != nil {
		m.views--
	}
	v.segments = nil
	m.mu.Unlock()
	for m.wipeParked() {
	}
}

// wipeAtOnce is how many parked slots are wiped in one hold of the lock, at
// about 50 ns each.
const wipeAtOnce = 4096

// free gives a slot back and wipes it, or parks it while a view may read it.
// (Slab.Hold would park as well, but wipe all of them in one go at the end.)
func (m *Machine) free(ref securemem.Ref) {
	if m.views > 0 {
		m.parked = append(m.parked, ref)
		return
	}
	m.slab.Free(ref)
}

// wipeParked wipes some parked slots, unless a view lives. It reports whether
// there are more to wipe now.
func (m *Machine) wipeParked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.views > 0 || len(m.parked) == 0 {
		return false
	}
	rest := max(len(m.parked)-wipeAtOnce, 0)
	for _, ref := range m.parked[rest:] {
		m.slab.Free(ref)
	}
	m.parked = m.parked[:rest]
	if rest == 0 {
		m.parked = nil
	}
	return rest > 0
}
