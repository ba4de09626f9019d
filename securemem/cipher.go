package securemem

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
)

const (
	// KeyBytes is the length of an AES-256 key.
	KeyBytes = 32
	// NonceBytes is the length of an AES-GCM nonce.
	NonceBytes = 12
	// TagBytes is what sealing adds.
	TagBytes = 16
)

var errKeyLength = fmt.Errorf("key must have %d bytes", KeyBytes)

// AEAD is AES-256-GCM, or XChaCha20-Poly1305 if [Memory.NewXAEAD] made it, whose
// key lies in the key region only. Seal and Open are safe for concurrent use and do not allocate when dst has room; what
// is passed to them escapes, so keep nonces and scratch out of the stack of a
// hot loop. It prints as "[secret]".
type AEAD struct {
	concealed
	// Method values of the moved state. They are not an interface because fmt,
	// given a wrong verb and a holder of a private AEAD, follows one of those
	// and prints the round keys; of a func it prints the address.
	seal func(dst, nonce, plaintext, ad []byte) []byte
	open func(dst, nonce, sealed, ad []byte) ([]byte, error)
	free func()
}

// NewAEAD expands key (32 bytes) inside [Do], moves the state into the key
// region and wipes what was built on the heap. The caller wipes key, and calls
// runtime.GC twice when done with a load of keys.
func (m *Memory) NewAEAD(key []byte) (a *AEAD, err error) {
	Do(func() { a, err = m.newAEAD(key) })
	if err != nil {
		return nil, fmt.Errorf("new aead: %w", err)
	}
	return a, nil
}

func (m *Memory) newAEAD(key []byte) (*AEAD, error) {
	if len(key) != KeyBytes {
		return nil, errKeyLength
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// NewGCM copies the block: two heap objects with one key schedule.
	defer wipeState(block)
	if err := pointerFreeState(block); err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err // GODEBUG=fips140=only refuses GCM with a caller's nonce
	}
	defer wipeState(gcm)
	return m.moveAEAD(gcm)
}

// moveAEAD moves the state behind original into the key region.
func (m *Memory) moveAEAD(original cipher.AEAD) (*AEAD, error) {
	moved, mem, err := relocate(m.keys, original)
	if err != nil {
		return nil, err
	}
	state := moved.(cipher.AEAD)
	return &AEAD{seal: state.Seal, open: state.Open, free: func() { m.keys.give(mem) }}, nil
}

// Seal appends the ciphertext and tag of plaintext to dst. nonce has 12 bytes
// (XChaCha20: 24) and is never used twice under one key. It panics on another nonce length.
func (a *AEAD) Seal(dst, nonce, plaintext, ad []byte) []byte {
	return a.seal(dst, nonce, plaintext, ad)
}

// Open appends the plaintext of sealed to dst. It fails on anything that was
// not sealed like this; then what it wrote into dst's spare room is wiped. dst
// may be sealed[:0]. It panics on another nonce length.
func (a *AEAD) Open(dst, nonce, sealed, ad []byte) ([]byte, error) {
	return a.open(dst, nonce, sealed, ad)
}

// Destroy wipes the state. The caller makes sure that nobody uses it any more:
// a later use panics. A second call does nothing.
func (a *AEAD) Destroy() {
	if a.open == nil {
		return
	}
	a.seal, a.open = nil, nil // a wiped state would go on sealing, under a key of zeros
	a.free()
}

// Block is AES-256 on single blocks whose key schedule lies in the key region
// only. It is safe for concurrent use and prints as "[secret]".
type Block struct {
	concealed
	encrypt, decrypt func(dst, src []byte) // method values, as in AEAD
	free             func()
}

// NewBlock expands key (32 bytes) like [Memory.NewAEAD].
func (m *Memory) NewBlock(key []byte) (b *Block, err error) {
	Do(func() { b, err = m.newBlock(key) })
	if err != nil {
		return nil, fmt.Errorf("new block cipher: %w", err)
	}
	return b, nil
}

func (m *Memory) newBlock(key []byte) (*Block, error) {
	if len(key) != KeyBytes {
		return nil, errKeyLength
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	defer wipeState(block)
	moved, mem, err := relocate(m.keys, block)
	if err != nil {
		return nil, err
	}
	state := moved.(cipher.Block)
	return &Block{encrypt: state.Encrypt, decrypt: state.Decrypt, free: func() { m.keys.give(mem) }}, nil
}

// Encrypt encrypts one block of 16 bytes; dst and src may be the same.
func (b *Block) Encrypt(dst, src []byte) { b.encrypt(dst, src) }

// Decrypt decrypts one block of 16 bytes; dst and src may be the same.
func (b *Block) Decrypt(dst, src []byte) { b.decrypt(dst, src) }

// EncryptAll encrypts src block by block (ECB: each block on its own, which is
// right for ids that are random and distinct and for nothing else). Both have
// the same length, a multiple of 16.
func (b *Block) EncryptAll(dst, src []byte) {
	if len(dst) != len(src) || len(src)%aes.BlockSize != 0 {
		panic("securemem: EncryptAll needs whole blocks and equal lengths")
	}
	for i := 0; i < len(src); i += aes.BlockSize {
		b.encrypt(dst[i:i+aes.BlockSize], src[i:i+aes.BlockSize])
	}
}

// Destroy wipes the state. The caller makes sure that nobody uses it any more:
// a later use panics. A second call does nothing.
func (b *Block) Destroy() {
	if b.encrypt == nil {
		return
	}
	b.encrypt, b.decrypt = nil, nil
	b.free()
}
