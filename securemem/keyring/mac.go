package keyring

import (
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"

	"cloakroom/securemem"
)

// RequestMAC writes HMAC-SHA-256 under the request key of context and parts to
// dst. Each of them goes in behind its length (8 bytes, big-endian), so that no
// two lists of parts are one message.
func (k *Keyring) RequestMAC(dst *[32]byte, context string, parts ...[]byte) {
	k.request.sum(dst, context, parts)
}

// CredentialMAC writes HMAC-SHA-256 under the credential key of SHA-256 of an
// API token, length-prefixed like [Keyring.RequestMAC], to dst. The hash and
// not the token, so that whoever founds a cluster can name its first
// principals before there is a credential key.
func (k *Keyring) CredentialMAC(dst *[32]byte, tokenHash *[32]byte) {
	k.creds.sum(dst, "credential", [][]byte{tokenHash[:]})
}

// SourceMAC writes HMAC-SHA-256 under the source key of context and parts,
// length-prefixed like [Keyring.RequestMAC], to dst. Parts may lie in guarded
// memory: nothing of them stays anywhere else.
func (k *Keyring) SourceMAC(dst *[32]byte, context string, parts ...[]byte) {
	k.source.sum(dst, context, parts)
}

// mac computes HMAC-SHA-256 under one key; see moveHMAC. Each lane serves one
// caller at a time.
type mac struct {
	next  atomic.Uint32
	lanes [4]macLane
}

type macLane struct {
	state *securemem.Secret // scratch, then the moved HMAC

	mu  sync.Mutex
	sha hash.Hash // behind it: state's memory
}

// newMAC builds the lanes under a key of the ring. The caller ends with
// collect.
func newMAC(mem *securemem.Memory, key *securemem.Secret) (m *mac, err error) {
	key.Use(func(key []byte) { m, err = buildMAC(mem, key) })
	return m, err
}

// buildMAC builds the lanes inside securemem.Do.
func buildMAC(mem *securemem.Memory, key []byte) (*mac, error) {
	m := new(mac)
	for i := range m.lanes {
		lane := &m.lanes[i]
		var err error
		if lane.state, err = mem.NewSecret(macScratch + movedHMACBytes); err == nil {
			lane.state.Use(func(b []byte) { lane.sha, err = moveHMAC(b[macScratch:], key) })
		}
		if err != nil {
			m.destroy()
			return nil, fmt.Errorf("new mac: %w", err)
		}
	}
	return m, nil
}

// macScratch is the room for a length, a context or a sum, so that none of
// them has to be on the heap.
const macScratch = 64

// destroy wipes the lanes; m may be nil or half made.
func (m *mac) destroy() {
	if m == nil {
		return
	}
	for i := range m.lanes {
		if s := m.lanes[i].state; s != nil {
			s.Destroy()
		}
	}
}

func (m *mac) sum(dst *[32]byte, context string, parts [][]byte) {
	lane := &m.lanes[m.next.Add(1)%uint32(len(m.lanes))]
	lane.mu.Lock()
	defer lane.mu.Unlock()
	lane.state.Use(func(b []byte) {
		scratch := b[:0:macScratch]
		lane.sha.Write(binary.BigEndian.AppendUint64(scratch, uint64(len(context))))
		lane.sha.Write(append(scratch, context...))
		for _, p := range parts {
			lane.sha.Write(binary.BigEndian.AppendUint64(scratch, uint64(len(p))))
			lane.sha.Write(p)
		}
		copy(dst[:], lane.sha.Sum(scratch))
		lane.sha.Reset() // the last block of the message goes as well
	})
}
