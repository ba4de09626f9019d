package record

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
)

// Config is what [New] needs to know.
type Config struct {
	// Keyring hands out the ciphers. Close the room before it.
	Keyring *keyring.Keyring
	// Memory holds the pads that values are sealed from.
	Memory *securemem.Memory
	// Cluster is the id of the cluster, the same as the keyring's.
	Cluster [16]byte
	// Rand makes nonces; nil is crypto/rand. Nonces that repeat give the
	// sealed values away, so nothing but a test sets it.
	Rand io.Reader
	// Pads is how many values can be sealed at the same time, 4 if 0, at most
	// 64; each takes 1 KiB of key memory.
	Pads int
}

// Room seals and opens. It is safe for concurrent use.
type Room struct {
	keys    *keyring.Keyring
	cluster [16]byte
	rand    io.Reader
	pads    pads
	openers sync.Pool // of *Opener, which hold nothing secret
	blocks  sync.Pool // of *block
	draws   sync.Pool // of *draws
}

// New returns a room over a keyring.
func New(cfg Config) (*Room, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Pads == 0 {
		cfg.Pads = 4
	}
	var faults []error
	if cfg.Keyring == nil {
		faults = append(faults, errors.New("no keyring given"))
	}
	if cfg.Memory == nil {
		faults = append(faults, errors.New("no memory given"))
	}
	if cfg.Cluster == [16]byte{} {
		faults = append(faults, errors.New("no cluster id given"))
	}
	if cfg.Pads < 1 || cfg.Pads > 64 {
		faults = append(faults, fmt.Errorf("%d pads: want 1 to 64", cfg.Pads))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("new record room: %w", err)
	}
	r := &Room{keys: cfg.Keyring, cluster: cfg.Cluster, rand: cfg.Rand}
	r.blocks.New = func() any { return new(block) }
	r.draws.New = func() any { return new(draws) }
	r.openers.New = func() any { return newOpener(r) }
	if err := r.pads.make(cfg.Memory, cfg.Pads); err != nil {
		return nil, fmt.Errorf("new record room: %w", err)
	}
	return r, nil
}

// Close frees the pads. The caller makes sure that nobody seals any more.
func (r *Room) Close() { r.pads.destroy() }

// additional is the additional data of one record, built in place: the header
// ends where the part that all records of an Opener share begins.
type additional [MaxHeaderBytes + recordADBytes]byte

func (a *additional) setCluster(id [16]byte) { copy(a[MaxHeaderBytes:], id[:]) }

func (a *additional) setField(f cloakroom.FieldNumber) {
	a[len(a)-2], a[len(a)-1] = byte(f>>8), byte(f)
}

// of completes the data with a record's own parts and returns it.
func (a *additional) of(header []byte, tok *cloakroom.Token) []byte {
	copy(a[MaxHeaderBytes+16:], tok[:])
	return a[MaxHeaderBytes-copy(a[MaxHeaderBytes-len(header):], header):]
}
