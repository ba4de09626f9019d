package securemem

// Harden keeps the process from being looked into and proves what it can:
// no core dumps, the flags of its own regions, a read of its own keys through
// the kernel that must fail, and then PR_SET_DUMPABLE 0. The result also
// stands in [Memory.Status]. A second call returns the first result.
//
// What could not be had is not an error here: the caller decides by lock mode.
func (m *Memory) Harden() []Check {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hardening == nil {
		m.hardening = m.harden()
	}
	return append([]Check(nil), m.hardening...)
}
