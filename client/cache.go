package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"cloakroom"
)

// CacheConfig makes [Client.Resolve] keep what it was answered and answer it
// again, for as long as a stream of changes says that it still holds.
//
// An erased value is served no longer than Silence after its erasure was
// acknowledged, whatever happens to the stream, the network or the server;
// normally for half a second. For a value that was replaced the length of a
// read lease comes on top (3 s), as for any read with the level lease. A value
// whose time is over is served no longer than MaxAge. Reads that are linearizable,
// or that name an index in [Query.After], are never answered from the cache, and what
// this client writes it sees at once. Values are kept in this process, in clear.
type CacheConfig struct {
	// Bytes is about how much memory the values may take; 32 MiB.
	Bytes int64
	// MaxAge is how long an answer is kept; 1 min.
	MaxAge time.Duration
	// Silence is how long the cache goes on after the last moment for which the
	// server vouched; 5 s, at least 2 s. Then all of it is dropped.
	Silence time.Duration
}

const (
	defaultCacheBytes = 32 << 20
	defaultMaxAge     = time.Minute
	// entryBytes is what an answer takes beside its values, about.
	entryBytes = 200
)

// withDefaults returns the configuration filled up, and every fault in it.
func (cfg CacheConfig) withDefaults() (CacheConfig, error) {
	if cfg.Bytes == 0 {
		cfg.Bytes = defaultCacheBytes
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultMaxAge
	}
	if cfg.Silence == 0 {
		cfg.Silence = defaultSilence
	}
	var faults []error
	if cfg.Bytes < entryBytes || cfg.MaxAge < 0 {
		faults = append(faults, errors.New("the cache's size or age is too small"))
	}
	if cfg.Silence < minSilence {
		faults = append(faults, fmt.Errorf("the cache's silence is under %v", minSilence))
	}
	return cfg, errors.Join(faults...)
}

// buckets is how many times of events are kept, by pseudonym: those that share
// one lose an answer now and then.
const buckets = 1 << 14

// cache keeps answers. Whether one still holds is decided when it is looked up,
// by times alone; what stands in the store may be as old as it likes. DESIGN.md
// has the argument.
type cache struct {
	cfg  CacheConfig
	base time.Time // of the times below, which are ns since

	known  atomic.Pointer[moment] // every erasure acknowledged before has been told
	hold   atomic.Int64           // how long after an event a read may still be answered from before
	reset  atomic.Int64           // the last gap
	events [buckets]atomic.Int64  // the last event of a pseudonym of the bucket

	clearing sync.RWMutex // held for reading while the store is used: Clear must be alone
	store    *ristretto.Cache[uint64, *kept]
	seed     maphash.Seed
	hits     atomic.Uint64
	misses   atomic.Uint64

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// kept is one answer. Nobody changes it.
type kept struct {
	id     cloakroom.Pseudonym
	query  string
	begun  int64 // when it was asked for
	fields Fields
}

// CacheStats are the counters of a cache.
type CacheStats struct {
	Hits, Misses uint64 // ids
	Live         bool   // the stream says that what is kept holds
}

// CacheStats returns the counters, zero without a cache.
func (c *Client) CacheStats() CacheStats {
	if c.cache == nil {
		return CacheStats{}
	}
	return CacheStats{Hits: c.cache.hits.Load(), Misses: c.cache.misses.Load(), Live: c.cache.live(time.Now())}
}

// startCache begins to follow the stream of changes. [Client.Close] ends it.
func (c *Client) startCache(cfg CacheConfig) (*cache, error) {
	store, err := ristretto.NewCache(&ristretto.Config[uint64, *kept]{
		NumCounters: max(10*cfg.Bytes/entryBytes, 100), MaxCost: cfg.Bytes, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	// A minute back, so that a time of 0 lies before everything.
	k := &cache{cfg: cfg, base: time.Now().Add(-time.Minute), store: store, seed: maphash.MakeSeed(), cancel: cancel}
	k.done.Go(func() { k.follow(ctx, c) }) // close stops both
	k.done.Go(func() { k.guard(ctx) })
	return k, nil
}

func (k *cache) close() {
	k.cancel()
	k.done.Wait()
	k.clearing.Lock()
	defer k.clearing.Unlock()
	k.store.Close()
}

// refused is how long the cache waits after the server said that it may not
// watch, or not any more: a grant may be mended.
const refused = 10 * time.Second

// follow takes in the stream.
func (k *cache) follow(ctx context.Context, c *Client) {
	for ctx.Err() == nil {
		c.watch(ctx, Watch{Silence: k.cfg.Silence}, k.take) //nolint:errcheck // without a stream nothing is served
		sleep(ctx, refused)                                 //nolint:errcheck // ends with ctx
	}
}

// guard drops everything when the stream has been silent for too long: nobody
// would be answered from it, but values must not lie about either.
func (k *cache) guard(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for empty := true; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if live := k.live(now); !live && !empty {
				k.drop()
				empty = true
			} else if live {
				empty = false
			}
		}
	}
}

// take takes one event in. What it tells of is noted before Known is.
func (k *cache) take(e *Event) error {
	now := k.since(time.Now())
	if e.hello {
		// Twice the lease, since clocks may go at different rates.
		k.hold.Store(max(k.hold.Load(), int64(2*e.lease)))
	}
	if e.Reset {
		k.reset.Store(now)
		k.drop()
	}
	for _, list := range [...][]cloakroom.Pseudonym{e.Erased, e.Changed} {
		for _, id := range list {
			k.events[bucket(id)].Store(now)
		}
	}
	if !e.Known.IsZero() {
		m := k.moment(e.Known)
		k.known.Store(&m)
	}
	return nil
}

// moment is a time by two clocks, in ns: the monotonic one stands still while
// the machine sleeps, the wall clock can be set.
type moment struct{ monotonic, wall int64 }

func (k *cache) moment(t time.Time) moment { return moment{k.since(t), t.UnixNano()} }

// drop frees what is kept.
func (k *cache) drop() {
	k.clearing.Lock()
	defer k.clearing.Unlock()
	k.store.Clear()
}

func bucket(id cloakroom.Pseudonym) int { return int(binary.LittleEndian.Uint16(id[:]) % buckets) }

func (k *cache) since(t time.Time) int64 { return int64(t.Sub(k.base)) }

// live reports whether the stream vouched for a moment that is not too long
// ago, by either clock.
func (k *cache) live(now time.Time) bool {
	known, at, silence := k.known.Load(), k.moment(now), int64(k.cfg.Silence)
	return known != nil && at.monotonic-known.monotonic < silence && at.wall-known.wall < silence
}

// holds reports whether an answer that was asked for at begun still holds for
// id, or may be kept: no event about it came later, nor so shortly before that
// another node could still have answered from before.
func (k *cache) holds(id cloakroom.Pseudonym, begun, now int64) bool {
	hold := k.hold.Load()
	return now-begun < int64(k.cfg.MaxAge) && begun > k.reset.Load()+hold && begun > k.events[bucket(id)].Load()+hold
}

// forget has the next read of id ask the server: this client has just written
// it, and its event may take a moment.
func (c *Client) forget(id cloakroom.Pseudonym) {
	if k := c.cache; k != nil {
		k.events[bucket(id)].Store(k.since(time.Now()))
	}
}

// key names what is asked of a subject.
func (q *Query) key() string {
	return q.Form + "\x00" + q.Purpose + "\x00" + strings.Join(q.Fields, "\x00")
}

// cacheable reports whether an answer may be as old as the cache's.
func (q *Query) cacheable() bool { return q.Level == cloakroom.Lease && q.After == "" }

func (k *cache) slot(id cloakroom.Pseudonym, query string) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seed)
	h.Write(id[:])
	h.WriteString(query)
	return h.Sum64()
}

// lookup moves the ids that the cache can answer into the result and returns
// the others, in the same memory.
func (k *cache) lookup(ids []cloakroom.Pseudonym, query string, result *Resolved) []cloakroom.Pseudonym {
	now := time.Now()
	if !k.live(now) {
		k.misses.Add(uint64(len(ids)))
		return ids
	}
	at := k.since(now)
	rest := ids[:0]
	k.clearing.RLock()
	defer k.clearing.RUnlock()
	for _, id := range ids {
		if e, ok := k.store.Get(k.slot(id, query)); ok && e.id == id && e.query == query && k.holds(id, e.begun, at) {
			result.Subjects[id] = maps.Clone(e.fields)
		} else {
			rest = append(rest, id)
		}
	}
	k.hits.Add(uint64(len(ids) - len(rest)))
	k.misses.Add(uint64(len(rest)))
	return rest
}

// keep takes the subjects of an answer in that was asked for at begun. What is
// missing is not kept: nobody tells when it comes about.
func (k *cache) keep(asked []cloakroom.Pseudonym, query string, begun time.Time, result *Resolved) {
	now := time.Now()
	if !k.live(now) {
		return
	}
	at, since := k.since(now), k.since(begun)
	k.clearing.RLock()
	defer k.clearing.RUnlock()
	for _, id := range asked {
		fields, found := result.Subjects[id]
		if !found || !k.holds(id, since, at) {
			continue
		}
		e := &kept{id, query, since, maps.Clone(fields)}
		k.store.SetWithTTL(k.slot(id, query), e, e.cost(), k.cfg.MaxAge)
	}
}

// cost is about how many bytes an answer takes.
func (e *kept) cost() int64 {
	n := entryBytes
	for name, value := range e.fields {
		n += 64 + len(name) + len(value.text) + len(value.raw)
	}
	return int64(n)
}
