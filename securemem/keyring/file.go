package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"cloakroom/securemem"
	"cloakroom/securemem/recovery"
)

// Keyring file, format 1: the blob of one version, sealed to the recovery
// recipient, as it lies on the disk of each node.
//
//	one JSON object (FileHeader, canonical) and a line feed
//	an age file (age-encryption.org/v1) of
//	  32 bytes  SHA-256 of the header, its line feed included
//	  …         the blob, format 1
//
// The header is for who has no key: it says which version this is and whose
// shares open it. The hash inside holds it to what was sealed, so that nobody
// who can write to the disk has shares collected for something else. The blob
// is held to the hash in the header, which the directory has committed.
const fileFormat = 1

// MaxFileBytes bounds a keyring file.
const MaxFileBytes = 128 << 10

// maxFileHeader bounds its first line.
const maxFileHeader = 16 << 10

// FileHeader is what anybody can read of a keyring file.
type FileHeader struct {
	Format   int             `json:"format"`
	Cluster  clusterID       `json:"cluster"`
	Version  uint64          `json:"version"`
	Hash     recovery.Hash   `json:"hash"` // of the blob
	Recovery recovery.Public `json:"recovery"`
}

// clusterID is a cluster id; its text form is hex.
type clusterID [16]byte

// MarshalText returns 32 hex digits.
func (id clusterID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *clusterID) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(id[:], text[:min(len(text), 2*len(id))]); err != nil || n != len(id) || len(text) != 2*n {
		return errors.New("want 32 hex digits")
	}
	return nil
}

// ErrFile is what [OpenFile] and [ReadFileHeader] return for bytes that are no
// keyring file of this cluster, or a damaged one.
var ErrFile = errors.New("not a keyring file of this cluster, or damaged")

// SealFile returns the keyring file of the current version, sealed to the
// recovery recipient of the cluster. Every node writes its own, anew at every
// version. It takes milliseconds.
func (k *Keyring) SealFile(public recovery.Public) ([]byte, error) {
	recipient, err := public.AgeRecipient()
	if err == nil {
		err = public.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("seal keyring file: %w", err)
	}
	k.mu.Lock() // Close wipes the keys under it
	defer k.mu.Unlock()
	if k.closed {
		return nil, fmt.Errorf("seal keyring file: %w", ErrClosed)
	}
	r := k.ring.Load()
	blob, err := r.encode(k.cfg)
	if err != nil {
		return nil, fmt.Errorf("seal keyring file: %w", err)
	}
	defer collect()
	defer blob.Destroy()
	header := FileHeader{Format: fileFormat, Cluster: k.cfg.Cluster, Version: r.version, Hash: r.hash, Recovery: public}
	file, err := header.line()
	if err != nil {
		return nil, fmt.Errorf("seal keyring file: %w", err)
	}
	sum, out := sha256.Sum256(file), bytes.NewBuffer(file)
	out.Grow(MaxFileBytes) // no growing inside
	blob.Use(func(blob []byte) { err = sealAge(out, recipient, sum[:], blob) })
	if err != nil {
		return nil, fmt.Errorf("seal keyring file: %w", err)
	}
	return bytes.Clone(out.Bytes()), nil
}

// sealAge writes an age file of parts. It is called inside securemem.Do.
func sealAge(out io.Writer, to age.Recipient, parts ...[]byte) error {
	w, err := age.Encrypt(out, to)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return w.Close()
}

// line returns the header as it stands in the file.
func (h *FileHeader) line() ([]byte, error) {
	b, err := json.Marshal(h)
	if err == nil && len(b) >= maxFileHeader {
		err = errors.New("header is too long")
	}
	return append(b, '\n'), err
}

// ReadFileHeader reads the first line of a keyring file. Nothing vouches for
// what it says: [OpenFile] does.
func ReadFileHeader(file []byte) (FileHeader, error) {
	h, _, err := splitFile(file)
	if err != nil {
		return FileHeader{}, fmt.Errorf("read keyring file: %w", err)
	}
	return h, nil
}

// splitFile returns the header of a file and the length of its line.
func splitFile(file []byte) (h FileHeader, end int, err error) {
	if len(file) > MaxFileBytes {
		return h, 0, ErrFile
	}
	end = bytes.IndexByte(file[:min(len(file), maxFileHeader)], '\n') + 1
	if end == 0 || json.Unmarshal(file[:end], &h) != nil || h.Format != fileFormat {
		return FileHeader{}, 0, ErrFile
	}
	again, err := h.line()
	if err != nil || !bytes.Equal(again, file[:end]) || h.Recovery.Check() != nil {
		return FileHeader{}, 0, ErrFile
	}
	return h, end, nil
}

// OpenFile builds the keyring in a file. identity is the recovery identity,
// made of a seed in guarded memory. It returns [ErrFile] for anything but the
// exact form, and age's error for another identity. The caller compares Version
// and Hash with what the directory has committed as soon as it can be read.
func OpenFile(cfg Config, file []byte, identity age.Identity) (*Keyring, FileHeader, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, FileHeader{}, fmt.Errorf("open keyring file: %w", err)
	}
	h, end, err := splitFile(file)
	if err == nil && h.Cluster != cfg.Cluster {
		err = ErrFile
	}
	if err != nil {
		return nil, FileHeader{}, fmt.Errorf("open keyring file: %w", err)
	}
	room, err := cfg.Memory.NewSecret(min(len(file), securemem.MaxSecret))
	if err != nil {
		return nil, FileHeader{}, fmt.Errorf("open keyring file: %w", err)
	}
	defer collect()
	defer room.Destroy()
	var r *ring
	room.Use(func(room []byte) {
		var blob []byte
		if blob, err = openAge(room, file[end:], sha256.Sum256(file[:end]), identity); err == nil {
			r, err = h.decode(cfg, blob)
		}
	})
	if err != nil {
		return nil, FileHeader{}, fmt.Errorf("open keyring file: %w", err)
	}
	k, err := start(cfg, r)
	if err != nil {
		return nil, FileHeader{}, fmt.Errorf("open keyring file: %w", err)
	}
	return k, h, nil
}

// openAge opens the age file into room and returns the blob in it. It is called
// inside securemem.Do.
func openAge(room, file []byte, header [32]byte, identity age.Identity) ([]byte, error) {
	stream, err := age.Decrypt(bytes.NewReader(file), identity)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, errors.New("it is sealed to somebody else")
	}
	if err != nil { // age's error quotes what it read
		return nil, ErrFile
	}
	n, err := io.ReadFull(stream, room)
	if !errors.Is(err, io.ErrUnexpectedEOF) || n < len(header) || [32]byte(room[:len(header)]) != header {
		return nil, ErrFile
	}
	return room[len(header):n], nil
}

// decode reads the blob of a file and holds it to the header.
func (h *FileHeader) decode(cfg Config, blob []byte) (*ring, error) {
	if recovery.Hash(sha256.Sum256(blob)) != h.Hash {
		return nil, ErrFile
	}
	r, err := decodeRing(cfg, blob)
	if err != nil {
		return nil, err
	}
	if r.version != h.Version {
		r.destroy()
		return nil, ErrFile
	}
	return r, nil
}
