package entry

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"runtime"

	"cloakroom/securemem"
)

// Sealed keyring, format 1: HPKE (RFC 9180) in its export-only mode, KEM
// MLKEM768-X25519, KDF HKDF-SHA-256, gives a key of 32 bytes under
//
//	info     "cloakroom/v1/hand-over" ‖ 0x00 ‖ cluster (16) ‖
//	         giver, taker, life of the taker, each behind its length (1)
//	context  "keyring"
//
// with which AES-256-GCM seals the blob, once: nonce zeros, additional data the
// TLS exporter of the connection (32). The mode leaves the AEAD to us: that of
// the library would open the keyring onto the heap.
const (
	infoPrefix    = "cloakroom/v1/hand-over\x00"
	exportContext = "keyring"
)

// ErrSealed is what [Request.Open] returns for what was not sealed for it, on
// that connection, by that node.
var ErrSealed = errors.New("the keys were sealed for another hand-over, or damaged")

// Parties are the two ends of a hand-over. What is sealed between them opens
// between the very same only.
type Parties struct {
	Cluster      [16]byte
	Giver, Taker string
	Life         string // of the taker
	Bound        [32]byte
}

func (p *Parties) info() []byte {
	info := append([]byte(infoPrefix), p.Cluster[:]...)
	for _, text := range [...]string{p.Giver, p.Taker, p.Life} {
		info = append(append(info, byte(len(text))), text...)
	}
	return info
}

// suite is the key encapsulation and key derivation that both ends use.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.ExportOnly()
}

// Request is the taker's side of one hand-over: a key that is made for it and
// used once. The private key is on the heap until it is collected; it opens
// nothing but what was also protected by the TLS connection.
type Request struct {
	key    hpke.PrivateKey
	public []byte
}

// NewRequest makes the key.
func NewRequest() (*Request, error) {
	r := new(Request)
	var err error
	securemem.Do(func() {
		kem, _, _ := suite()
		if r.key, err = kem.GenerateKey(); err == nil {
			r.public = r.key.PublicKey().Bytes()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make key for a hand-over: %w", err)
	}
	return r, nil
}

// Public returns the public key, 1216 bytes.
func (r *Request) Public() []byte { return r.public }

// String hides the key.
func (*Request) String() string { return concealed }

// GoString hides the key.
func (*Request) GoString() string { return concealed }

// Seal seals a keyring for the node that made a request with that public key.
// The keyring is read where it is, in guarded memory.
func Seal(mem *securemem.Memory, public []byte, parties Parties, blob *securemem.Secret) (encapsulated, sealed []byte, err error) {
	defer collect()
	var key []byte
	securemem.Do(func() { encapsulated, key, err = export(public, parties.info()) })
	if err != nil {
		return nil, nil, fmt.Errorf("seal keys: %w", err)
	}
	aead, err := mem.NewAEAD(key)
	clear(key)
	if err != nil {
		return nil, nil, fmt.Errorf("seal keys: %w", err)
	}
	defer aead.Destroy()
	nonce := make([]byte, securemem.NonceBytes)
	sealed = make([]byte, 0, blob.Len()+securemem.TagBytes)
	blob.Use(func(b []byte) { sealed = aead.Seal(sealed, nonce, b, parties.Bound[:]) })
	return encapsulated, sealed, nil
}

// export is the giver's half of the key agreement.
func export(public, info []byte) (encapsulated, key []byte, err error) {
	kem, kdf, none := suite()
	to, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	encapsulated, sender, err := hpke.NewSender(to, kdf, none, info)
	if err != nil {
		return nil, nil, err
	}
	key, err = sender.Export(exportContext, securemem.KeyBytes)
	return encapsulated, key, err
}

// Open opens a sealed keyring and hands it to use, in a guarded buffer that is
// wiped afterwards. It returns [ErrSealed] for anything that was not sealed for
// r and these parties; ctx bounds the wait for a buffer.
func (r *Request) Open(ctx context.Context, mem *securemem.Memory, parties Parties, encapsulated, sealed []byte, use func(blob []byte) error) error {
	if len(sealed) < securemem.TagBytes {
		return ErrSealed
	}
	defer collect()
	buf, err := mem.Pool().Get(ctx, len(sealed))
	if err != nil {
		return fmt.Errorf("open keys: %w", err)
	}
	defer buf.Release()
	var key []byte
	securemem.Do(func() {
		_, kdf, none := suite()
		recipient, failed := hpke.NewRecipient(encapsulated, r.key, kdf, none, parties.info())
		if failed == nil {
			key, failed = recipient.Export(exportContext, securemem.KeyBytes)
		}
		err = failed
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSealed, err)
	}
	aead, err := mem.NewAEAD(key)
	clear(key)
	if err != nil {
		return fmt.Errorf("open keys: %w", err)
	}
	defer aead.Destroy()
	var blob []byte
	securemem.Do(func() {
		blob, err = aead.Open(buf.Bytes()[:0], make([]byte, securemem.NonceBytes), sealed, parties.Bound[:])
	})
	if err != nil {
		return ErrSealed
	}
	return use(blob)
}

// collect ends a handling of keys: what was allocated inside securemem.Do is
// wiped when the collector finds it unreachable, which takes two rounds.
func collect() {
	runtime.GC()
	runtime.GC()
}
