package keyring

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"math/rand/v2"
	"testing"
	"time"

	"filippo.io/edwards25519"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 8032, section 7.1, tests 2 and 3.
func TestSignKnownAnswers(t *testing.T) {
	for _, c := range []struct{ seed, public, message, sig string }{
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
			"72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
				"085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		}, {
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
			"af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
				"18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
		},
	} {
		got := make([]byte, SignatureBytes)
		signEd25519(got, unhex(t, c.seed), unhex(t, c.public), unhex(t, c.message))
		if want := unhex(t, c.sig); !bytes.Equal(got, want) {
			t.Errorf("signature of %s: got %x, want %x", c.message, got, want)
		}
	}
}

func TestSignsLikeTheStandardLibrary(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		key, message := make([]byte, 32), make([]byte, rnd.IntN(300))
		for _, b := range [][]byte{key, message} {
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
		}
		std := ed25519.NewKeyFromSeed(key)
		s, _ := expandSeed(key)
		public := new(edwards25519.Point).ScalarBaseMult(&s).Bytes()
		if !bytes.Equal(public, std[32:]) {
			t.Fatalf("public key of %x: got %x, want %x", key, public, std[32:])
		}
		got := make([]byte, SignatureBytes)
		signEd25519(got, key, public, message)
		if want := ed25519.Sign(std, message); !bytes.Equal(got, want) {
			t.Fatalf("signature under %x: got %x, want %x", key, got, want)
		}
	}
}

func TestSignThenVerify(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	message := []byte("a receipt")
	sig := k.Sign("receipt", message)
	keys := k.PublicKeys()
	if len(keys) != 1 || keys[0].Algorithm != "Ed25519" || len(keys[0].ID) != 16 || keys[0].NotBefore.Unix() != 1_800_000_000 {
		t.Fatalf("PublicKeys = %+v", keys)
	}
	key := keys[0].Key
	if !Verify(key, "receipt", message, sig) {
		t.Fatal("the signature does not verify")
	}
	if !ed25519.Verify(key, []byte("cloakroom/v1/receipt\x00a receipt"), sig) {
		t.Error("the signed bytes are others than documented")
	}
	sig[3] ^= 1
	if Verify(key, "receipt", message, sig) {
		t.Error("a changed signature verifies")
	}
	sig[3] ^= 1
	if Verify(key, "checkpoint", message, sig) || Verify(key, "receipt", message[1:], sig) || Verify(key[1:], "receipt", message, sig) {
		t.Error("another context, message or key verifies")
	}
	id, named := k.SignNamed("receipt", message)
	if !bytes.Equal(named, sig) || hex.EncodeToString(id[:]) != keys[0].ID {
		t.Errorf("SignNamed = %x, %x", id, named)
	}
	if !k.VerifyNamed(id, "receipt", message, sig) {
		t.Error("the named signature does not verify")
	}
	if k.VerifyNamed(id, "checkpoint", message, sig) || k.VerifyNamed(KeyID(k.CAPublicKey()), "receipt", message, sig) {
		t.Error("another context or another key's id verifies")
	}
	key[0] ^= 1
	if bytes.Equal(key, k.PublicKeys()[0].Key) {
		t.Error("PublicKeys hands out the keyring's own bytes")
	}
}
