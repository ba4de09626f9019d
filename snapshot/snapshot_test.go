package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"cloakroom"
)

var update = flag.Bool("update", false, "write the golden file anew")

// The identity of the tests, of age's own kind and never used elsewhere; the
// keyring's is held to it where the two rooms meet (keyring_test.go).
const testIdentity = "AGE-SECRET-KEY-PQ-1QYPQXPQ9QCRSSZG2PVXQ6RS0ZQG3YYC5Z5TPWXQERGD3C8G7RUSQJ0Q9H3"

var testHeader = Header{
	Origin:  Origin{Cluster: [16]byte{0xc1, 1, 2, 3}, Group: 4, Generation: 2, Index: 77, Term: 5},
	Created: 1_800_000_000_123, Epoch: 3, Lowest: 1, Highest: 4,
	Records: 10, Living: 4, Erased: 1,
}

func headerFor(state []byte) Header {
	h := testHeader
	h.Payload = int64(len(state))
	return h
}

func hybrid(t testing.TB) *age.HybridIdentity {
	t.Helper()
	id, err := age.ParseHybridIdentity(testIdentity)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func signingKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func seal(t testing.TB) Seal {
	return Seal{Recipient: hybrid(t).Recipient(), Sign: func(context string, message []byte) ([8]byte, []byte) {
		return [8]byte{0xaa, 1}, ed25519.Sign(signingKey(), append([]byte(context+"\x00"), message...))
	}}
}

func open(t testing.TB) Open {
	id := hybrid(t)
	return Open{
		Want: testHeader.Origin,
		Identity: func(e cloakroom.Epoch) (age.Identity, error) {
			if e != testHeader.Epoch {
				return nil, errNoSuchEpoch
			}
			return id, nil
		},
		Verify: func(key [8]byte, context string, message, sig []byte) bool {
			return key == [8]byte{0xaa, 1} &&
				ed25519.Verify(signingKey().Public().(ed25519.PublicKey), append([]byte(context+"\x00"), message...), sig)
		},
	}
}

var errNoSuchEpoch = errors.New("no such epoch")

func written(t testing.TB, h Header, state []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h, seal(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func noise(t testing.TB, n int) []byte {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// What is written is read again, has the size foretold and the header readable
// by itself, for every length at which a chunk begins or ends.
func TestWhatIsWrittenIsRead(t *testing.T) {
	state := noise(t, 3*chunkBytes+1)
	for _, n := range []int{0, 1, 100, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, len(state)} {
		file := written(t, headerFor(state[:n]), state[:n])
		if got, want := int64(len(file)), Size(int64(n)); got != want {
			t.Errorf("%d bytes of state: size %d, want %d", n, got, want)
		}
		h, err := ReadHeader(bytes.NewReader(file))
		if err != nil || h != headerFor(state[:n]) {
			t.Errorf("%d bytes of state: header %+v, %v", n, h, err)
		}
		r, err := NewReader(bytes.NewReader(file), open(t))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, state[:n]) {
			t.Errorf("%d bytes of state: read %d, %v", n, len(got), err)
		}
		if r.Header() != h {
			t.Errorf("%d bytes of state: reader's header %+v", n, r.Header())
		}
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := NewWriter(io.Discard, Header{Payload: -1}, Seal{})
	for _, want := range []string{"recipient", "signer", "cluster", "generation", "epoch", "payload"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewWriter = %v, does not mention %s", err, want)
		}
	}
	_, err = NewReader(strings.NewReader(""), Open{})
	for _, want := range []string{"identities", "verifier"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewReader = %v, does not mention %s", err, want)
		}
	}
}
