package securemem

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"unsafe"

	"cloakroom"
)

const (
	chunkBytes   = 128 << 10
	groupChunks  = 16 // a group of chunks is one 2 MiB page where the kernel has them
	groupBytes   = groupChunks * chunkBytes
	regionGroups = 32
	regionBytes  = regionGroups * groupBytes // 64 MiB
	maxLimit     = 1 << 40
)

// Arena is the source of the chunks from which the slabs of all shards carve
// their slots. It maps regions of 64 MiB as they are needed; a region costs
// RAM only where chunks were used.
//
// A chunk lies at a random place within its group of 2 MiB, a group at a
// random place within its region. Chunks come from begun groups first, so that
// large pages stay few and groups fall empty and go back to the kernel.
//
// Arena is safe for concurrent use.
type Arena struct {
	memory   *Memory
	limit    int64 // bytes
	fallBack bool  // to plain pages when the kernel refuses to lock more

	mu      sync.Mutex
	how     protection // of the next region
	regions []*arenaRegion
	handed  int64 // bytes of chunks in the hands of slabs
	slabs   map[*Slab]struct{}
}

// arenaRegion is one region cut into chunks. Guarded by Arena.mu.
type arenaRegion struct {
	*region
	free    int                  // chunks
	taken   [regionGroups]uint16 // bit set: chunk taken, or behind the region's end
	touched [regionGroups]bool   // group has cost RAM since it was last discarded
	groups  int
}

// ArenaStats are counters of an [Arena], in bytes.
type ArenaStats struct {
	Limit         int64
	Mapped        int64            // chunks in the hands of slabs
	Used          int64            // live slots and pages, by class
	Free          int64            // Limit − Mapped: what any shard can still use for any size
	Reusable      int64            // Mapped − Used: free slots, each of use only to its shard and class
	Fragmentation float64          // Reusable ÷ Mapped
	Purposes      map[string]int64 // :: purpose of the slab → bytes used
}

// newArena maps the first region at once, so that Open finds out what the
// kernel refuses.
func newArena(m *Memory, limit int64, how protection, fallBack bool) (*Arena, error) {
	a := &Arena{memory: m, limit: limit, how: how, fallBack: fallBack, slabs: make(map[*Slab]struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.mapRegion()
	return a, err
}

// mapRegion adds a region. a.mu is held.
func (a *Arena) mapRegion() (*arenaRegion, error) {
	size := int(min(a.limit, regionBytes))
	reg, err := a.memory.mapRegion(purposeArena, size, groupBytes, a.how)
	if err != nil && a.how.locked() && a.fallBack {
		a.how = hugePages
		a.memory.logger.Warn("record arena cannot be locked further: using plain memory for sealed records", "err", err)
		reg, err = a.memory.mapRegion(purposeArena, size, groupBytes, a.how)
	}
	if err != nil {
		return nil, err
	}
	chunks := size / chunkBytes
	r := &arenaRegion{region: reg, free: chunks, groups: (chunks + groupChunks - 1) / groupChunks}
	if rest := chunks % groupChunks; rest != 0 {
		r.taken[r.groups-1] = ^uint16(0) << rest
	}
	a.regions = append(a.regions, r)
	return r, nil
}

// take hands out a zeroed chunk, or cloakroom.ErrMemoryFull.
func (a *Arena) take() (unsafe.Pointer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.handed+chunkBytes > a.limit {
		return nil, fmt.Errorf("arena of %d bytes: %w", a.limit, cloakroom.ErrMemoryFull)
	}
	r, err := a.roomiest()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cloakroom.ErrMemoryFull, err)
	}
	a.handed += chunkBytes
	return r.take(), nil
}

// roomiest returns the fullest region that has a chunk left. a.mu is held.
func (a *Arena) roomiest() (*arenaRegion, error) {
	var best *arenaRegion
	for _, r := range a.regions {
		if r.free > 0 && (best == nil || r.free < best.free) {
			best = r
		}
	}
	if best != nil {
		return best, nil
	}
	return a.mapRegion()
}

// take picks a random chunk of a random begun group, else of a random new one.
func (r *arenaRegion) take() unsafe.Pointer {
	group := r.pick(func(taken uint16) bool { return taken != 0 && taken != ^uint16(0) })
	if group < 0 {
		group = r.pick(func(taken uint16) bool { return taken != ^uint16(0) })
	}
	free := ^r.taken[group]
	for range rand.IntN(bits.OnesCount16(free)) {
		free &= free - 1
	}
	chunk := bits.TrailingZeros16(free)
	r.taken[group] |= 1 << chunk
	r.touched[group] = true
	r.free--
	return unsafe.Add(r.mem.at, (group*groupChunks+chunk)*chunkBytes)
}

// pick returns a random group that fits, or -1.
func (r *arenaRegion) pick(fits func(taken uint16) bool) int {
	found, chosen := 0, -1
	for i := range r.groups {
		if fits(r.taken[i]) {
			if found++; rand.IntN(found) == 0 {
				chosen = i
			}
		}
	}
	return chosen
}

// give takes back a chunk that its slab has wiped.
func (a *Arena) give(chunk unsafe.Pointer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, r := range a.regions {
		if !r.mem.has(chunk) {
			continue
		}
		a.handed -= chunkBytes
		r.give(chunk)
		if a.spare(r) {
			a.regions = append(a.regions[:i], a.regions[i+1:]...)
			_ = a.memory.unmapRegion(r.region)
		}
		return
	}
	panic("securemem: chunk of no region")
}

// spare reports whether r is empty and another region has room: one empty
// region stays, so that a store at the edge does not map and unmap all day.
func (a *Arena) spare(r *arenaRegion) bool {
	if r.free != r.mem.n/chunkBytes {
		return false
	}
	for _, other := range a.regions {
		if other != r && other.free > 0 {
			return true
		}
	}
	return false
}

// give marks a chunk free and returns an emptied group to the kernel, if it is
// not the only one that is empty and warm.
func (r *arenaRegion) give(chunk unsafe.Pointer) {
	at := int((uintptr(chunk) - r.mem.addr()) / chunkBytes)
	group, bit := at/groupChunks, uint16(1)<<(at%groupChunks)
	if r.taken[group]&bit == 0 {
		panic("securemem: chunk given back twice")
	}
	r.taken[group] &^= bit
	r.free++
	if r.taken[group] != 0 || r.how == secretPages {
		return // secretmem gives back whole regions only
	}
	for i := range r.groups {
		if i != group && r.touched[i] && r.taken[i] == 0 {
			discard(r.mem.bytes()[group*groupBytes:(group+1)*groupBytes], r.how)
			r.touched[group] = false
			return
		}
	}
}

// close keeps the arena from handing out memory that is unmapped next.
func (a *Arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit, a.regions = 0, nil
}

// locked reports whether all regions are locked, and will be.
func (a *Arena) locked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.regions {
		if !r.how.locked() {
			return false
		}
	}
	return a.how.locked()
}

// Free returns how many bytes no slab has yet, and the limit of the arena. It
// is for the write path, which asks before every deposit; Stats adds up more.
func (a *Arena) Free() (free, limit int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limit - a.handed, a.limit
}

// Stats sums up the counters of all slabs.
func (a *Arena) Stats() ArenaStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := ArenaStats{Limit: a.limit, Mapped: a.handed, Free: a.limit - a.handed, Purposes: map[string]int64{}}
	for slab := range a.slabs {
		used := slab.used.Load()
		s.Used += used
		s.Purposes[slab.purpose] += used
	}
	s.Reusable = s.Mapped - s.Used
	if s.Mapped > 0 {
		s.Fragmentation = float64(s.Reusable) / float64(s.Mapped)
	}
	return s
}
