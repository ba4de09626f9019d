package securemem

// Status is what an operator may know about the guarded memory.
type Status struct {
	Backend     string           `json:"backend"`      // of keys and buffers: secretmem, memguard or plain
	Lock        string           `json:"lock"`         // required, auto or off
	ArenaLocked bool             `json:"arena_locked"` // whether every region of the arena is locked
	Erasure     string           `json:"erasure"`      // on or off: see Do
	Locked      map[string]int64 `json:"locked"`       // :: purpose → bytes locked
	Mapped      map[string]int64 `json:"mapped"`       // :: purpose → bytes mapped, locked ones included
	Lockable    int64            `json:"lockable"`     // bytes that could be locked at start; MaxInt64: no limit
	Hardening   []Check          `json:"hardening"`    // empty before Harden
}

// Check is one hardening step and whether it could be had.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Status returns the state of the memory.
func (m *Memory) Status() Status {
	s := Status{
		Backend: m.backend, Lock: m.mode.String(), ArenaLocked: m.arena.locked(), Erasure: "off",
		Locked: map[string]int64{}, Mapped: map[string]int64{}, Lockable: m.lockable,
	}
	if ErasureOn() {
		s.Erasure = "on"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for reg := range m.regions {
		s.Mapped[reg.purpose] += int64(reg.mem.n)
		if reg.how.locked() {
			s.Locked[reg.purpose] += int64(reg.mem.n)
		}
	}
	s.Hardening = append(s.Hardening, m.hardening...)
	return s
}
