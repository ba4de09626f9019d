package state

import (
	"math/bits"
	"runtime"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// readStage is how many tokens go through the stages of a read together.
const readStage = 64

// Read appends, for each token, a span to dst and the sealed record's bytes,
// if there is one. Expired records are among them: the reader hides them by
// dst.Time. It allocates nothing once dst is large enough.
//
// Tokens go in stages (first all buckets, then all slots, then all copies), so
// that the cache misses of a stage overlap: that is most of the time.
func (m *Machine) Read(tokens []cloakroom.Token, dst *command.Records) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for len(tokens) > 0 {
		n := min(len(tokens), readStage)
		m.readStaged(tokens[:n], dst)
		tokens = tokens[n:]
	}
	dst.Time = max(dst.Time, m.time)
}

// finding is where a token stands on its way through the stages.
type finding struct {
	bucket *bucket       // nil: the token is not there
	ref    securemem.Ref // 0: no candidate
	mark   mark
}

func (m *Machine) readStaged(tokens []cloakroom.Token, dst *command.Records) {
	var findings [readStage]finding
	touch := byte(0)
	for i := range tokens {
		k := newKey(&tokens[i])
		s := m.index.segment(k.prefix)
		b := s.bucket(s.first(k.hash))
		findings[i].bucket = b
		touch |= b.tag(0)
	}
	for i := range tokens {
		touch |= m.candidate(&findings[i], &tokens[i])
	}
	runtime.KeepAlive(touch) // the loads are there to warm the cache
	for i := range tokens {
		m.copyRecord(&findings[i], &tokens[i], dst)
	}
}

// candidate finds the first entry of the bucket with the token's tag and
// touches both ends of its slot.
func (m *Machine) candidate(f *finding, token *cloakroom.Token) byte {
	match := f.bucket.match(tag(token))
	if match == 0 {
		if f.bucket.strays() == 0 {
			f.bucket = nil
			return 0
		}
		k := newKey(token)
		s := m.index.segment(k.prefix)
		return s.bucket(s.second(k.hash)).tag(0)
	}
	i := bits.TrailingZeros32(match)
	f.ref, f.mark = f.bucket.ref(i), f.bucket.mark(i)
	if f.ref == 0 {
		return 0
	}
	slot := m.slab.Bytes(f.ref)
	return slot[0] | slot[len(slot)-1]
}

// copyRecord appends the record of a token, looking again if the candidate is
// another's (1 in 20) or the token lives in its second bucket.
func (m *Machine) copyRecord(f *finding, token *cloakroom.Token, dst *command.Records) {
	var slot []byte
	mark := f.mark
	if f.ref != 0 {
		slot = m.slab.Bytes(f.ref)
	}
	if f.bucket != nil && (slot == nil || !slotHolds(slot, token)) {
		slot = nil
		k := newKey(token)
		if s, at, ok := m.index.find(&k); ok {
			b := s.bucket(at.bucket)
			slot, mark = m.slab.Bytes(b.ref(at.entry)), b.mark(at.entry)
		}
	}
	if slot == nil {
		dst.Spans = append(dst.Spans, command.Span{})
		return
	}
	record := slotRecord(slot, mark)
	dst.Spans = append(dst.Spans, command.Span{Off: uint32(len(dst.Buf)), Len: uint32(len(record))})
	dst.Buf = append(dst.Buf, record...)
}
