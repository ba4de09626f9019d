package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// reference is HMAC-SHA-256 over the length-prefixed parts, in the plain way.
func reference(key []byte, context string, parts ...[]byte) (sum [32]byte) {
	h := hmac.New(sha256.New, key)
	for _, p := range append([][]byte{[]byte(context)}, parts...) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// With the counting reader the credential key is 40…5f, the request key 60…7f.
func countedKey(from byte) []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = from + byte(i)
	}
	return key
}

func TestMACsAreHMAC(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	k := newTestKeyring(t, testConfig(t))
	var got [32]byte
	for range 200 {
		parts := make([][]byte, rnd.IntN(4))
		for i := range parts {
			parts[i] = make([]byte, rnd.IntN(300))
			for j := range parts[i] {
				parts[i][j] = byte(rnd.Uint32())
			}
		}
		context := string(bytes.Repeat([]byte{'c'}, rnd.IntN(100)))
		k.RequestMAC(&got, context, parts...)
		if want := reference(countedKey(0x60), context, parts...); got != want {
			t.Fatalf("RequestMAC = %x, want %x", got, want)
		}
	}
	index := countedKey(0x00)
	source, err := hkdf.Key(sha256.New, index, testCluster[:], "cloakroom/v1/source\x00", 32)
	if err != nil {
		t.Fatal(err)
	}
	k.SourceMAC(&got, "handle", []byte("issuer"), []byte("subject"))
	if want := reference(source, "handle", []byte("issuer"), []byte("subject")); got != want {
		t.Errorf("SourceMAC = %x, want %x", got, want)
	}
	token := sha256.Sum256([]byte("a token"))
	k.CredentialMAC(&got, &token)
	if want := reference(countedKey(0x40), "credential", token[:]); got != want {
		t.Errorf("CredentialMAC = %x, want %x", got, want)
	}
}

func TestMACFramesItsParts(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	seen := make(map[[32]byte]int)
	for i, parts := range [][][]byte{
		{[]byte("ab")}, {[]byte("a"), []byte("b")}, {[]byte("ab"), nil}, {nil, []byte("ab")}, {},
	} {
		var sum [32]byte
		k.RequestMAC(&sum, "x", parts...)
		if other, ok := seen[sum]; ok {
			t.Errorf("lists %d and %d have one MAC", i, other)
		}
		seen[sum] = i
	}
}

func TestMACFromManyGoroutines(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	want := reference(countedKey(0x60), "context", []byte("part"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				var got [32]byte
				k.RequestMAC(&got, "context", []byte("part"))
				if got != want {
					t.Error("another MAC under concurrency")
					return
				}
				if i%100 == 0 {
					runtime.GC() // the moved state holds pointers that it must not follow
				}
			}
		})
	}
	wg.Wait()
}

func TestMACDoesNotAllocate(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	var sum [32]byte
	body, id := make([]byte, 300), make([]byte, 16)
	if n := testing.AllocsPerRun(100, func() { k.RequestMAC(&sum, "idempotency", body, id) }); n != 0 {
		t.Errorf("RequestMAC costs %v allocations", n)
	}
}

// What a MAC leaves in its lane is the state before the first block: nothing of
// the message.
func TestMACForgetsTheMessage(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	marker := []byte("Ada Augusta King-Lovelace")
	var sum [32]byte
	for range k.request.lanes {
		k.RequestMAC(&sum, "x", marker)
		k.SourceMAC(&sum, "x", marker)
	}
	for _, m := range []*mac{k.request, k.source} {
		for i := range m.lanes {
			m.lanes[i].state.Use(func(b []byte) {
				if bytes.Contains(b, marker[:12]) {
					t.Errorf("lane %d still holds the message", i)
				}
			})
		}
	}
}

func BenchmarkRequestMAC(b *testing.B) {
	k := newTestKeyring(b, testConfig(b))
	var sum [32]byte
	body, id := make([]byte, 150), make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		k.RequestMAC(&sum, "idempotency", body, id)
	}
}

func BenchmarkOpening(b *testing.B) {
	k := newTestKeyring(b, testConfig(b))
	for b.Loop() {
		if _, err := k.Opening(1, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k := newTestKeyring(b, testConfig(b))
	message := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		k.Sign("receipt", message)
	}
}
