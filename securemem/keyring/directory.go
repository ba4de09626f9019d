package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"cloakroom"
	"cloakroom/securemem"
)

// Sealed entry of the directory's log, format 1, all numbers big-endian:
//
//	offset  bytes  what
//	     0      1  format, 1
//	     1      2  epoch of the data key
//	     3     24  nonce, random
//	    27      c  ciphertext, c a multiple of 256
//	     …     16  tag
//
// XChaCha20-Poly1305 under HKDF(data key of the epoch, "directory-log").
// Additional data: "cloakroom/v1/directory-log" ‖ 0x00 ‖ the first 3 bytes ‖
// cluster id (16) ‖ group (4) ‖ generation (4). Plaintext: length (4) ‖ entry ‖
// zeros up to c.
//
// The directory hands out the numbers that other sealing keys are derived
// with, so its own entries can have none; hence the cipher whose nonces may be
// drawn at random as long as the key lives.
const (
	entryFormat      = 1
	entryHeaderBytes = 1 + 2
	entrySealedAt    = entryHeaderBytes + securemem.NonceXBytes
	entryLengthBytes = 4
	entryClass       = 256
	entryPurpose     = "directory-log"

	// maxSealedEntry bounds a sealed entry.
	maxSealedEntry = entrySealedAt + (entryLengthBytes+cloakroom.MaxEntryBytes+entryClass-1)/entryClass*entryClass + securemem.TagBytes
)

// ErrDirectoryEntry is the one error for an entry of the directory's log that
// was not sealed for this cluster, group and generation, or is damaged.
var ErrDirectoryEntry = errors.New("entry of the directory's log cannot be opened")

// directoryCiphers are those of the epochs used so far.
type directoryCiphers map[cloakroom.Epoch]*securemem.AEAD

// SealDirectory appends the sealed form of an entry of the directory's log to
// dst, for one group and generation of it, under the newest epoch.
func (k *Keyring) SealDirectory(dst []byte, group, generation uint32, entry []byte) ([]byte, error) {
	if len(entry) > cloakroom.MaxEntryBytes {
		return dst, fmt.Errorf("seal directory entry: %w", cloakroom.ErrTooLarge)
	}
	epoch := cloakroom.Epoch(k.ring.Load().newest(dataKey).number)
	aead, err := k.directoryCipher(epoch)
	if err != nil {
		return dst, fmt.Errorf("seal directory entry: %w", err)
	}
	start := len(dst)
	padded := (entryLengthBytes + len(entry) + entryClass - 1) / entryClass * entryClass
	dst = slices.Grow(dst, entrySealedAt+padded+securemem.TagBytes)
	dst = append(dst, entryFormat)
	dst = binary.BigEndian.AppendUint16(dst, uint16(epoch))
	nonce := dst[len(dst) : len(dst)+securemem.NonceXBytes]
	if _, err := io.ReadFull(k.cfg.Rand, nonce); err != nil {
		return dst[:start], fmt.Errorf("make nonce: %w", err)
	}
	dst = dst[:start+entrySealedAt]
	plain := dst[len(dst) : len(dst)+padded]
	clear(plain)
	binary.BigEndian.PutUint32(plain, uint32(len(entry)))
	copy(plain[entryLengthBytes:], entry)
	ad := k.entryAD(dst[start:start+entryHeaderBytes], group, generation)
	return aead.Seal(dst, nonce, plain, ad), nil
}

// OpenDirectory appends the entry that was sealed for this group and generation
// to dst. It opens entries of every epoch of the keyring, and returns
// [ErrDirectoryEntry] for anything else, or [ErrUnknownKey].
func (k *Keyring) OpenDirectory(dst []byte, group, generation uint32, sealed []byte) ([]byte, error) {
	padded := len(sealed) - entrySealedAt - securemem.TagBytes
	if padded < entryClass || padded%entryClass != 0 || len(sealed) > maxSealedEntry || sealed[0] != entryFormat {
		return dst, ErrDirectoryEntry
	}
	aead, err := k.directoryCipher(cloakroom.Epoch(binary.BigEndian.Uint16(sealed[1:])))
	if err != nil {
		return dst, fmt.Errorf("open directory entry: %w", err)
	}
	start := len(dst)
	nonce, ad := sealed[entryHeaderBytes:entrySealedAt], k.entryAD(sealed[:entryHeaderBytes], group, generation)
	plain, err := aead.Open(slices.Grow(dst, padded), nonce, sealed[entrySealedAt:], ad)
	if err != nil {
		return dst, ErrDirectoryEntry
	}
	n := int(binary.BigEndian.Uint32(plain[start:]))
	if n > cloakroom.MaxEntryBytes || (entryLengthBytes+n+entryClass-1)/entryClass*entryClass != padded {
		return dst, ErrDirectoryEntry
	}
	copy(plain[start:], plain[start+entryLengthBytes:start+entryLengthBytes+n])
	return plain[:start+n], nil
}

func (k *Keyring) entryAD(header []byte, group, generation uint32) []byte {
	const label = infoPrefix + entryPurpose + "\x00"
	ad := make([]byte, 0, len(label)+len(header)+len(k.cfg.Cluster)+4+4)
	ad = append(append(append(ad, label...), header...), k.cfg.Cluster[:]...)
	ad = binary.BigEndian.AppendUint32(ad, group)
	return binary.BigEndian.AppendUint32(ad, generation)
}

// directoryCipher returns the cipher of an epoch; the first call for one
// derives it and takes milliseconds.
func (k *Keyring) directoryCipher(e cloakroom.Epoch) (*securemem.AEAD, error) {
	if a := (*k.entries.Load())[e]; a != nil {
		return a, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	old := *k.entries.Load()
	if a := old[e]; a != nil {
		return a, nil
	}
	parent := k.ring.Load().find(dataKey, uint32(e))
	if parent == nil {
		return nil, fmt.Errorf("epoch %d: %w", e, ErrUnknownKey)
	}
	defer collect()
	var aead *securemem.AEAD
	err := k.derive(parent.secret, entryPurpose, nil, func(key []byte) (err error) {
		aead, err = k.cfg.Memory.NewXAEAD(key)
		return err
	})
	if err != nil {
		return nil, err
	}
	next := make(directoryCiphers, len(old)+1)
	maps.Copy(next, old)
	next[e] = aead
	k.entries.Store(&next)
	return aead, nil
}
