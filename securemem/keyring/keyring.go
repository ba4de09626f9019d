package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

// Config is what [New] and [Decode] need to know.
type Config struct {
	// Memory holds the keys. Close the keyring before it.
	Memory *securemem.Memory
	// Cluster is the id of the cluster, the salt of every derivation.
	Cluster [16]byte
	// Rand makes keys; nil is crypto/rand.
	Rand io.Reader
	// Now dates keys; nil is time.Now.
	Now func() time.Time
	// NextSealingNumber takes a number that no node of this cluster has had
	// and will have. It is called at the first seal, after each 2^31 seals and
	// after a rotation, while other seals wait, so it must not seal; opening
	// goes on.
	NextSealingNumber func() (cloakroom.SealingNumber, error)

	// maxSeals and maxOpenings are limits that tests lower.
	maxSeals    uint64
	maxOpenings int
}

const (
	// maxSeals is how many messages one sealing key seals. With random 96-bit
	// nonces the chance that two of them are equal is then below 2^-35.
	maxSeals = 1 << 31
	// maxOpenings bounds the sealing keys that are kept ready to open with; a
	// cluster uses a few of them at a time. 256 take 192 KiB of key memory.
	maxOpenings = 256
	// maxTokenCiphers bounds the token ciphers: a schema's fields, the subject
	// record and the alias record.
	maxTokenCiphers = cloakroom.MaxFields + 2
)

// ErrUnknownKey is what a sealed message under a key gets that this keyring
// does not hold.
var ErrUnknownKey = errors.New("no such key in the keyring")

// ErrClosed is what every call on a closed keyring gets that can return one.
var ErrClosed = errors.New("keyring is closed")

// Keyring holds the keys of one cluster.
type Keyring struct {
	cfg Config

	ring     atomic.Pointer[ring]             // the current version
	slot     *securemem.Block                 // slot cipher, built at once
	tokens   atomic.Pointer[ciphers]          // token ciphers built so far
	openings atomic.Pointer[openers]          // sealing keys ready to open with
	sealing  atomic.Pointer[sealing]          // the one to seal with, nil at first
	entries  atomic.Pointer[directoryCiphers] // of the directory's log
	request  *mac                             // under the newest request key
	creds    *mac                             // under the newest credential key
	source   *mac                             // under the source key, built at once

	// taking is held while a sealing number is taken, which may last; others
	// can open meanwhile. It comes before mu.
	taking sync.Mutex

	// mu is held while any of the above is replaced. It is never taken on the
	// way of a read or a seal that finds its cipher ready.
	mu     sync.Mutex
	closed bool
}

// normal returns cfg with its defaults filled in, or every fault it has.
func (cfg Config) normal() (Config, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.maxSeals == 0 {
		cfg.maxSeals = maxSeals
	}
	if cfg.maxOpenings == 0 {
		cfg.maxOpenings = maxOpenings
	}
	var faults []error
	if cfg.Memory == nil {
		faults = append(faults, errors.New("no memory given"))
	}
	if cfg.Cluster == [16]byte{} {
		faults = append(faults, errors.New("no cluster id given"))
	}
	if cfg.NextSealingNumber == nil {
		faults = append(faults, errors.New("no source of sealing numbers given"))
	}
	return cfg, errors.Join(faults...)
}

// New makes the keys of a new cluster, version 1 of its keyring.
func New(cfg Config) (*Keyring, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, fmt.Errorf("new keyring: %w", err)
	}
	r := &ring{version: 1}
	for _, p := range purposes() {
		number := uint32(1)
		if p == indexKey {
			number = 0 // there is only ever one
		}
		if err := r.addNew(cfg, p, number); err != nil {
			r.destroy()
			return nil, fmt.Errorf("new keyring: %w", err)
		}
	}
	return start(cfg, r)
}

// start builds what every use needs from the keys of r, which it takes over.
func start(cfg Config, r *ring) (*Keyring, error) {
	k := &Keyring{cfg: cfg}
	k.tokens.Store(&ciphers{})
	k.openings.Store(&openers{})
	k.entries.Store(&directoryCiphers{})
	err := k.build(r)
	collect()
	if err != nil {
		r.destroy()
		k.destroyCiphers()
		return nil, fmt.Errorf("start keyring: %w", err)
	}
	k.ring.Store(r)
	return k, nil
}

func (k *Keyring) build(r *ring) (err error) {
	if err = r.seal(k.cfg); err != nil {
		return err
	}
	r.publish()
	err = k.derive(r.newest(indexKey).secret, "slot", nil, func(key []byte) (err error) {
		k.slot, err = k.cfg.Memory.NewBlock(key)
		return err
	})
	if err != nil {
		return err
	}
	err = k.derive(r.newest(indexKey).secret, "source", nil, func(key []byte) (err error) {
		k.source, err = buildMAC(k.cfg.Memory, key)
		return err
	})
	if err != nil {
		return err
	}
	if k.request, err = newMAC(k.cfg.Memory, r.newest(requestKey).secret); err != nil {
		return err
	}
	k.creds, err = newMAC(k.cfg.Memory, r.newest(credentialKey).secret)
	return err
}

// Rotate makes the data key and the snapshot identity of the next epoch, in a
// new version of the keyring. From then on messages and snapshots are sealed
// under them; the keys before them keep opening. Where several nodes hold the keyring, the caller makes sure that
// they have the new version before anybody rotates.
func (k *Keyring) Rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return fmt.Errorf("rotate data key: %w", ErrClosed)
	}
	old := k.ring.Load()
	epoch := old.newest(dataKey).number + 1
	if epoch > lastEpoch {
		return errors.New("rotate data key: all epochs are used up")
	}
	r := old.next()
	if err := r.addEpoch(k.cfg, epoch); err != nil {
		return fmt.Errorf("rotate data key: %w", err)
	}
	r.publish()
	collect()
	k.ring.Store(r)
	k.sealing.Store(nil)
	return nil
}

// Version counts the versions of the keyring from 1.
func (k *Keyring) Version() uint64 { return k.ring.Load().version }

// Hash is SHA-256 of the current version's blob, which holds the hash of the
// version before. The directory commits it; it says nothing about the keys,
// which have 256 random bits each.
func (k *Keyring) Hash() [32]byte { return k.ring.Load().hash }

// Close wipes all keys and the ciphers built from them. The caller makes sure
// that nobody uses either any more. A second call does nothing.
func (k *Keyring) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.closed = true
	k.sealing.Store(nil)
	k.destroyCiphers()
	k.ring.Load().destroy()
	collect()
}

func (k *Keyring) destroyCiphers() {
	for _, b := range *k.tokens.Swap(&ciphers{}) {
		b.Destroy()
	}
	for _, o := range *k.openings.Swap(&openers{}) {
		o.aead.Destroy()
	}
	for _, a := range *k.entries.Swap(&directoryCiphers{}) {
		a.Destroy()
	}
	if k.slot != nil {
		k.slot.Destroy()
	}
	k.request.destroy()
	k.creds.destroy()
	k.source.destroy()
}

// collect ends every handling of keys: what was allocated inside securemem.Do
// is wiped when the collector finds it unreachable, and it takes two rounds
// until objects that hung on others are gone as well.
func collect() {
	runtime.GC()
	runtime.GC()
}

const concealed = "[secret]"

// Format writes "[secret]" for every verb, so that no way of printing a
// keyring shows anything of it.
func (*Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, concealed) }

// LogValue returns "[secret]".
func (*Keyring) LogValue() slog.Value { return slog.StringValue(concealed) }

// MarshalText returns "[secret]"; JSON uses it as well.
func (*Keyring) MarshalText() ([]byte, error) { return []byte(concealed), nil }
