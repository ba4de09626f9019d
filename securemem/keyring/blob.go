package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cloakroom/securemem"
)

// Keyring blob, format 1, all numbers big-endian:
//
//	offset  bytes  what
//	     0      4  "ckrg"
//	     4      1  format, 1
//	     5      8  version, from 1
//	    13     32  SHA-256 of the blob of the version before; zeros in version 1
//	    45     16  cluster id
//	    61      2  number of keys
//	    63     45  per key, ascending by purpose and number, none twice:
//	               purpose (1) ‖ number (4) ‖ created, Unix seconds (8) ‖ key (32)
//
// There is one index key, number 0; of the other purposes at least one key,
// numbers from 1. A data key and a snapshot identity of one number, up to
// 65535, make an epoch; neither is without the other. A keyring of 30 epochs
// has 2,988 bytes. The blob has no checksum: it is kept encrypted and
// authenticated, and whoever takes one over compares its hash with the
// directory's.
const (
	blobMagic       = "ckrg"
	blobFormat      = 1
	blobHeaderBytes = 63
	blobEntryBytes  = 1 + 4 + 8 + keyBytes
	maxBlobEntries  = (securemem.MaxSecret - blobHeaderBytes) / blobEntryBytes
)

// ErrBlob is what [Decode] returns for bytes that are not the blob of a
// keyring of this cluster.
var ErrBlob = errors.New("not a keyring blob of this cluster, or damaged")

// Encode returns the blob of the current version. The caller destroys it.
func (k *Keyring) Encode() (*securemem.Secret, error) {
	k.mu.Lock() // Close wipes the keys under it
	defer k.mu.Unlock()
	if k.closed {
		return nil, fmt.Errorf("encode keyring: %w", ErrClosed)
	}
	return k.ring.Load().encode(k.cfg)
}

func (r *ring) encode(cfg Config) (*securemem.Secret, error) {
	if len(r.entries) > maxBlobEntries {
		return nil, fmt.Errorf("encode keyring: %d keys: want at most %d", len(r.entries), maxBlobEntries)
	}
	blob, err := cfg.Memory.NewSecret(blobHeaderBytes + len(r.entries)*blobEntryBytes)
	if err != nil {
		return nil, fmt.Errorf("encode keyring: %w", err)
	}
	blob.Use(func(b []byte) {
		b = append(b[:0], blobMagic...)
		b = append(b, blobFormat)
		b = binary.BigEndian.AppendUint64(b, r.version)
		b = append(b, r.before[:]...)
		b = append(b, cfg.Cluster[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.entries)))
		for _, e := range r.entries {
			b = append(b, byte(e.purpose))
			b = binary.BigEndian.AppendUint32(b, e.number)
			b = binary.BigEndian.AppendUint64(b, uint64(e.created))
			e.secret.Use(func(key []byte) { b = append(b, key...) })
		}
	})
	return blob, nil
}

// Decode builds the keyring that [Keyring.Encode] wrote. blob lies in guarded
// memory and belongs to the caller, who compares Version and Hash with what
// the directory has committed before using the keyring. It returns [ErrBlob]
// for anything but the exact form.
func Decode(cfg Config, blob []byte) (*Keyring, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, fmt.Errorf("decode keyring: %w", err)
	}
	var r *ring
	securemem.Do(func() { r, err = decodeRing(cfg, blob) })
	if err != nil {
		return nil, fmt.Errorf("decode keyring: %w", err)
	}
	return start(cfg, r)
}

func decodeRing(cfg Config, blob []byte) (*ring, error) {
	count, err := checkBlob(cfg, blob)
	if err != nil {
		return nil, err
	}
	r := &ring{version: binary.BigEndian.Uint64(blob[5:])}
	copy(r.before[:], blob[13:])
	for rest := blob[blobHeaderBytes:]; len(rest) > 0; rest = rest[blobEntryBytes:] {
		s, err := cfg.Memory.NewSecret(keyBytes)
		if err != nil {
			r.destroy()
			return nil, err
		}
		s.Use(func(b []byte) { copy(b, rest[13:blobEntryBytes]) })
		r.entries = append(r.entries, &entry{
			purpose: purpose(rest[0]),
			number:  binary.BigEndian.Uint32(rest[1:]),
			created: int64(binary.BigEndian.Uint64(rest[5:])),
			secret:  s,
		})
	}
	if len(r.entries) != count {
		panic("keyring: checked blob has another number of keys")
	}
	return r, nil
}

// checkBlob checks the form of a whole blob before any key is taken from it,
// and returns the number of keys.
func checkBlob(cfg Config, blob []byte) (count int, err error) {
	if len(blob) < blobHeaderBytes || string(blob[:4]) != blobMagic || blob[4] != blobFormat ||
		[16]byte(blob[45:61]) != cfg.Cluster {
		return 0, ErrBlob
	}
	version := binary.BigEndian.Uint64(blob[5:])
	if version == 0 || (version == 1) != ([32]byte(blob[13:45]) == [32]byte{}) {
		return 0, ErrBlob
	}
	count = int(binary.BigEndian.Uint16(blob[61:]))
	if count > maxBlobEntries || len(blob) != blobHeaderBytes+count*blobEntryBytes {
		return 0, ErrBlob
	}
	have := make(map[purpose]int)
	before := int64(-1)
	for rest := blob[blobHeaderBytes:]; len(rest) > 0; rest = rest[blobEntryBytes:] {
		p, number := purpose(rest[0]), binary.BigEndian.Uint32(rest[1:])
		order := int64(p)<<32 | int64(number)
		if !slices.Contains(purposes(), p) || order <= before || !validNumber(p, number) {
			return 0, ErrBlob
		}
		have[p], before = have[p]+1, order
	}
	for _, p := range purposes() {
		if have[p] == 0 {
			return 0, ErrBlob
		}
	}
	if !sameEpochs(blob[blobHeaderBytes:], have) {
		return 0, ErrBlob
	}
	return count, nil
}

// sameEpochs reports whether data keys and snapshot identities, which lie in
// order, have the same numbers.
func sameEpochs(entries []byte, have map[purpose]int) bool {
	n := have[dataKey]
	if have[snapshotKey] != n {
		return false
	}
	data := entries[have[indexKey]*blobEntryBytes:]
	snapshot := entries[len(entries)-n*blobEntryBytes:] // the last purpose
	for i := range n {
		at := i*blobEntryBytes + 1
		if [4]byte(data[at:]) != [4]byte(snapshot[at:]) {
			return false
		}
	}
	return true
}

// lastEpoch is the highest there can be: records have two bytes for it.
const lastEpoch = 1<<16 - 1

func validNumber(p purpose, number uint32) bool {
	switch p {
	case indexKey:
		return number == 0
	case dataKey: // and with it a snapshot identity, see sameEpochs
		return number >= 1 && number <= lastEpoch
	}
	return number >= 1
}
