package state

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"cloakroom"
)

// indexModel is an index beside a plain map of the same records.
type indexModel struct {
	t      *testing.T
	x      *index
	tokens []cloakroom.Token
	at     map[cloakroom.Token]int // :: token → position in tokens
}

func newIndexModel(t *testing.T) *indexModel {
	x, err := newIndex(newSlab(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	return &indexModel{t: t, x: x, at: map[cloakroom.Token]int{}}
}

func (m *indexModel) insert(token cloakroom.Token) {
	m.t.Helper()
	ref, slot, err := m.x.slab.Alloc(slotHead + 8)
	if err != nil {
		m.t.Fatal(err)
	}
	k := newKey(&token)
	if err := m.x.reserve(&k, 1); err != nil {
		m.t.Fatal(err)
	}
	if err := m.x.insert(&k, ref, fillSlot(slot, &token, token[:8]), 0); err != nil {
		m.t.Fatal(err)
	}
	m.at[token] = len(m.tokens)
	m.tokens = append(m.tokens, token)
}

func (m *indexModel) remove(token cloakroom.Token) {
	m.t.Helper()
	k := newKey(&token)
	if err := m.x.reserve(&k, 0); err != nil {
		m.t.Fatal(err)
	}
	s, at, ok := m.x.find(&k)
	if !ok {
		m.t.Fatal("a token is not found")
	}
	m.x.slab.Free(s.bucket(at.bucket).ref(at.entry))
	m.x.remove(s, at, &k)
	m.x.shrink(&k)
	last := m.tokens[len(m.tokens)-1]
	m.tokens[m.at[token]], m.at[last] = last, m.at[token]
	m.tokens = m.tokens[:len(m.tokens)-1]
	delete(m.at, token)
}

// check looks every token up, and as many that are not there, and compares
// all counters with what they count.
func (m *indexModel) check(r *rand.Rand) {
	m.t.Helper()
	for i := range m.tokens {
		k := newKey(&m.tokens[i])
		if _, _, ok := m.x.find(&k); !ok {
			m.t.Fatalf("token %d of %d is lost", i, len(m.tokens))
		}
		absent := randomToken(r)
		k = newKey(&absent)
		if _, _, ok := m.x.find(&k); ok {
			m.t.Fatal("a token is found that is not there")
		}
	}
	count, pages := 0, 0
	for _, s := range m.x.segments(nil) {
		entries := s.appendEntries(m.x.slab, nil)
		for i := range entries {
			if !covers(s.prefix, s.depth, &entries[i].token) {
				m.t.Fatal("a token is in another's segment")
			}
		}
		if len(entries) != s.count {
			m.t.Fatalf("segment counts %d entries, has %d", s.count, len(entries))
		}
		count, pages = count+s.count, pages+len(s.pages)
		m.checkStrays(s)
	}
	if count != len(m.tokens) || m.x.count != count || m.x.pages != pages {
		m.t.Fatalf("index counts %d entries and %d pages, has %d and %d, want %d entries",
			m.x.count, m.x.pages, count, pages, len(m.tokens))
	}
}

// checkStrays counts the entries outside their first bucket.
func (m *indexModel) checkStrays(s *segment) {
	m.t.Helper()
	strays := make([]uint32, s.buckets)
	var buf [bucketEntries]entry
	for b := range s.buckets {
		for _, e := range s.bucket(b).entries(m.x.slab, &buf) {
			if first := s.first(spread(&e.token)); first != b {
				strays[first]++
			}
		}
	}
	for b, want := range strays {
		if got := s.bucket(uint32(b)).strays(); got != want {
			m.t.Fatalf("bucket %d counts %d strays, has %d", b, got, want)
		}
	}
}

// TestIndexAtScale grows to 300,000 tokens, replaces many, and goes down
// again. From 10,000 on an entry takes at most 6.7 bytes of index.
func TestIndexAtScale(t *testing.T) {
	r := seeded(t)
	m := newIndexModel(t)
	for len(m.tokens) < 300_000 {
		m.insert(randomToken(r))
		if n := len(m.tokens); n >= 10_000 && n%5000 == 0 {
			perEntry := float64(m.x.pages*pageBytes) / float64(n)
			load := float64(n) / float64(m.x.pages*pageEntries)
			if perEntry > 8 || load > 0.96 {
				t.Errorf("%d tokens: %.2f bytes an entry at load %.3f, want at most 8 and 0.96", n, perEntry, load)
			}
		}
	}
	m.check(r)
	for range 100_000 {
		m.remove(m.tokens[r.IntN(len(m.tokens))])
		m.insert(randomToken(r))
	}
	m.check(r)
	for len(m.tokens) > 100_000 {
		m.remove(m.tokens[r.IntN(len(m.tokens))])
	}
	m.check(r)
	if load := float64(m.x.count) / float64(m.x.pages*pageEntries); load < 0.45 {
		t.Errorf("after removals: load %.3f, want at least 0.45: pages are not given back", load)
	}
	for len(m.tokens) > 0 {
		m.remove(m.tokens[0])
	}
	m.check(r)
}

// Tokens are random by construction; if they ever are not, the index must
// become slower, not wrong or endless.
func TestIndexTakesTokensThatAreNotRandom(t *testing.T) {
	for name, token := range map[string]func(i int) cloakroom.Token{
		"counted at the end": func(i int) (t cloakroom.Token) {
			binary.BigEndian.PutUint64(t[8:], uint64(i))
			return t
		},
		"counted in the middle": func(i int) (t cloakroom.Token) {
			binary.LittleEndian.PutUint64(t[4:], uint64(i))
			return t
		},
		"in order": func(i int) (t cloakroom.Token) {
			binary.BigEndian.PutUint32(t[:], uint32(i)<<12)
			return t
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newIndexModel(t)
			for i := range 60_000 {
				m.insert(token(i))
			}
			m.check(seeded(t))
			if perEntry := float64(m.x.pages*pageBytes) / 60_000; perEntry > 12 {
				t.Errorf("%.1f bytes an entry, want at most 12", perEntry)
			}
		})
	}
}
