package securemem

import (
	"fmt"
	"sync"
	"unsafe"
)

// MaxSecret is the largest [Secret] in bytes.
const MaxSecret = 64 << 10

// Secret is a key or another short secret in the key region. It prints as
// "[secret]". Use may be called concurrently; Destroy waits for all uses.
type Secret struct {
	concealed
	heap *keyHeap

	mu sync.RWMutex
	at unsafe.Pointer // nil once destroyed
	n  int
}

// NewSecret returns a zeroed secret of n bytes, 1 to [MaxSecret]. It fails
// with cloakroom.ErrMemoryFull when the key region is full.
func (m *Memory) NewSecret(n int) (*Secret, error) {
	if n < 1 || n > MaxSecret {
		return nil, fmt.Errorf("new secret: %d bytes: want 1 to %d", n, MaxSecret)
	}
	b, err := m.keys.take(n)
	if err != nil {
		return nil, fmt.Errorf("new secret: %w", err)
	}
	return &Secret{heap: m.keys, at: unsafe.Pointer(unsafe.SliceData(b)), n: n}, nil
}

// Use calls f with the bytes of the secret, inside [Do]. They must not outlive
// f. It is the only way in, so that a search for it lists every reader.
// Use after Destroy panics.
func (s *Secret) Use(f func(b []byte)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.at == nil {
		panic("securemem: use of a destroyed secret")
	}
	b := unsafe.Slice((*byte)(s.at), s.n)
	Do(func() { f(b) })
}

// Len is the length of the secret in bytes.
func (s *Secret) Len() int { return s.n }

// Destroy wipes the secret and frees its memory. A second call does nothing.
func (s *Secret) Destroy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		return
	}
	s.heap.give(unsafe.Slice((*byte)(s.at), s.n))
	s.at = nil
}
