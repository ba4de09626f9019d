package securemem

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"unsafe"

	"cloakroom"
)

// The purposes of the regions that every Memory has.
const (
	purposeKeys  = "keys"
	purposePool  = "pool"
	purposeArena = "arena"
)

// Memory is the process's guarded memory. It is safe for concurrent use.
type Memory struct {
	mode     LockMode
	backend  string
	lockable int64 // bytes the process could lock when Open was called; MaxInt64: no limit
	logger   *slog.Logger

	keys  *keyHeap
	pool  *Pool
	arena *Arena

	mu        sync.Mutex
	regions   map[*region]struct{}
	plain     map[unsafe.Pointer]*region // what MapPlain gave out
	hardening []Check
	closed    bool
}

// Open maps the keys and the pool, tests that ciphers work from there, and
// prepares the arena. It checks RLIMIT_MEMLOCK before it locks anything.
//
// Under [LockRequired] it fails when not everything can be locked; under
// [LockAuto] only when not even keys and buffers can be. The error names the
// limit, what is needed and how to raise it.
func Open(cfg Config) (*Memory, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, fmt.Errorf("open guarded memory: %w", err)
	}
	p, err := makePlan(cfg)
	if err != nil {
		return nil, fmt.Errorf("open guarded memory: %w", err)
	}
	m := &Memory{
		mode: cfg.Lock, backend: p.backend, lockable: p.lockable, logger: cfg.Logger,
		regions: make(map[*region]struct{}), plain: make(map[unsafe.Pointer]*region),
	}
	if err := m.mapAll(cfg, p); err != nil {
		return nil, fmt.Errorf("open guarded memory: %w", errors.Join(err, m.Close()))
	}
	m.report()
	return m, nil
}

// mapAll maps what a plan asks for and tests it.
func (m *Memory) mapAll(cfg Config, p plan) error {
	keys, err := m.mapRegion(purposeKeys, p.keyBytes, 1<<12, p.small)
	if err != nil {
		return err
	}
	m.keys = newKeyHeap(keys.mem.bytes())
	if err := m.testCiphers(); err != nil {
		return err
	}
	pool, err := m.mapRegion(purposePool, p.poolBytes, 1<<12, p.small)
	if err != nil {
		return err
	}
	m.pool = newPool(pool.mem.bytes())
	m.arena, err = newArena(m, cfg.Limit, p.arena, cfg.Lock != LockRequired)
	return err
}

// report tells the operator once what could not be had.
func (m *Memory) report() {
	switch {
	case m.mode == LockOff:
		m.logger.Warn("memory is not locked: memory.lock is off")
	case !m.arena.locked():
		m.logger.Warn("record arena is not locked: sealed records are in plain memory, kept out of core dumps",
			"backend", m.backend, "lockable", m.lockable, "limit", m.arena.limit)
	}
}

// mapRegion maps a region and counts it.
func (m *Memory) mapRegion(purpose string, n, align int, how protection) (*region, error) {
	reg, err := mapRegion(purpose, n, align, how)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.Join(errClosed, reg.close())
	}
	m.regions[reg] = struct{}{}
	return reg, nil
}

// unmapRegion wipes and unmaps a region that mapRegion gave.
func (m *Memory) unmapRegion(reg *region) error {
	m.mu.Lock()
	_, known := m.regions[reg]
	delete(m.regions, reg)
	m.mu.Unlock()
	if !known {
		return nil
	}
	return reg.close()
}

// MapPlain maps n zeroed bytes outside the Go heap for ciphertext: never
// locked, kept out of core dumps and of children. purpose is for the counters.
func (m *Memory) MapPlain(purpose string, n int) ([]byte, error) {
	if n <= 0 || n > math.MaxInt32 {
		return nil, fmt.Errorf("map plain memory: %d bytes: want 1 to %d", n, math.MaxInt32)
	}
	const page = 1 << 16 // a multiple of every page size in use
	reg, err := m.mapRegion(purpose, (n+page-1)&^(page-1), page, plainPages)
	if err != nil {
		return nil, fmt.Errorf("map plain memory: %w", errors.Join(cloakroom.ErrMemoryFull, err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plain[reg.mem.at] = reg
	return reg.mem.bytes()[:n:n], nil
}

// UnmapPlain wipes and unmaps what [Memory.MapPlain] returned; b must start
// where that slice started. Anything else panics.
func (m *Memory) UnmapPlain(b []byte) {
	at := unsafe.Pointer(unsafe.SliceData(b))
	m.mu.Lock()
	reg := m.plain[at]
	delete(m.plain, at)
	closed := m.closed
	m.mu.Unlock()
	if reg == nil && !closed {
		panic("securemem: UnmapPlain of memory that MapPlain did not give")
	}
	if reg != nil {
		_ = m.unmapRegion(reg)
	}
}

var errClosed = errors.New("guarded memory is closed")

// Close wipes and unmaps everything. Nothing that came from m may be used
// afterwards: such a use faults, except for Destroy. A second Close does
// nothing.
func (m *Memory) Close() error {
	m.mu.Lock()
	regions := m.regions
	m.regions, m.plain, m.closed = map[*region]struct{}{}, map[unsafe.Pointer]*region{}, true
	m.mu.Unlock()
	if m.keys != nil {
		m.keys.close()
	}
	if m.pool != nil {
		m.pool.close()
	}
	if m.arena != nil {
		m.arena.close()
	}
	var faults []error
	for reg := range regions {
		faults = append(faults, reg.close())
	}
	return errors.Join(faults...)
}

// Pool returns the pool of request and reply buffers.
func (m *Memory) Pool() *Pool { return m.pool }

// Arena returns the arena of the sealed records.
func (m *Memory) Arena() *Arena { return m.arena }
