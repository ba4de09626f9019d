package securemem

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
)

// pointerFreeState checks the struct behind a cipher.
func pointerFreeState(pointer any) error {
	typ := reflect.TypeOf(pointer)
	if typ.Kind() != reflect.Pointer {
		return fmt.Errorf("cipher state %s is not a pointer", typ)
	}
	return pointerFree(typ.Elem())
}

// testCiphers proves at start that relocated states compute what the standards
// say: a Go release that changed them must not seal a single record. The key
// is zero, and so nobody's.
func (m *Memory) testCiphers() error {
	key := make([]byte, KeyBytes)
	zeros := make([]byte, 16)
	aead, err := m.NewAEAD(key)
	if err != nil {
		return err
	}
	defer aead.Destroy()
	block, err := m.NewBlock(key)
	if err != nil {
		return err
	}
	defer block.Destroy()

	got := make([]byte, 16)
	block.Encrypt(got, zeros)
	if !bytes.Equal(got, zeroKeyBlock[:]) {
		return errKnownAnswer
	}
	block.Decrypt(got, got)
	if !bytes.Equal(got, zeros) {
		return errKnownAnswer
	}
	sealed := aead.Seal(nil, zeros[:NonceBytes], zeros, nil)
	if !bytes.Equal(sealed, zeroKeySealed[:]) {
		return errKnownAnswer
	}
	opened, err := aead.Open(nil, zeros[:NonceBytes], sealed, nil)
	if err != nil || !bytes.Equal(opened, zeros) {
		return errKnownAnswer
	}
	sealed[0] ^= 1
	if _, err := aead.Open(nil, zeros[:NonceBytes], sealed, nil); err == nil {
		return errKnownAnswer
	}
	return m.testXCipher()
}

// testXCipher does the same for XChaCha20-Poly1305, with the example of
// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
func (m *Memory) testXCipher() error {
	key, nonce := make([]byte, KeyBytes), make([]byte, NonceXBytes)
	for i := range key {
		key[i] = 0x80 + byte(i)
	}
	for i := range nonce {
		nonce[i] = 0x40 + byte(i)
	}
	aead, err := m.NewXAEAD(key)
	if err != nil {
		return err
	}
	defer aead.Destroy()
	sealed := aead.Seal(nil, nonce, []byte(xText), xAdditional[:])
	if !bytes.Equal(sealed[len(xText):], xTag[:]) {
		return errKnownAnswer
	}
	if opened, err := aead.Open(nil, nonce, sealed, xAdditional[:]); err != nil || string(opened) != xText {
		return errKnownAnswer
	}
	sealed[0] ^= 1
	if _, err := aead.Open(nil, nonce, sealed, xAdditional[:]); err == nil {
		return errKnownAnswer
	}
	return nil
}

const xText = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."

var (
	xAdditional = [12]byte{0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7}
	xTag        = [TagBytes]byte{
		0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a, 0xcf, 0x49,
	}
)

var errKnownAnswer = errors.New("a cipher moved into guarded memory does not compute the known answer")

// zeroKeyBlock is AES-256 of a zero block under a zero key (NIST AESAVS,
// the base of the GCM specification's hash key H in test cases 13 and 14).
var zeroKeyBlock = [16]byte{
	0xdc, 0x95, 0xc0, 0x78, 0xa2, 0x40, 0x89, 0x89, 0xad, 0x48, 0xa2, 0x14, 0x92, 0x84, 0x20, 0x87,
}

// zeroKeySealed is test case 14 of McGrew and Viega, "The Galois/Counter Mode
// of Operation": AES-256, zero key, zero nonce, one zero block.
var zeroKeySealed = [32]byte{
	0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18,
	0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19,
}
