package securemem

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"reflect"
	"sync"
	"testing"

	"cloakroom"
)

// TestCiphersMatchTheLibrary compares moved states with ordinary ones, on
// every backend and from several goroutines.
func TestCiphersMatchTheLibrary(t *testing.T) {
	backends(t, func(t *testing.T, m *Memory) {
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range 50 {
					compareCiphers(t, m)
				}
			})
		}
		wait.Wait()
		if got := m.keys.inUse(); got != 0 {
			t.Errorf("%d bytes of key memory are left in use", got)
		}
	})
}

func compareCiphers(t *testing.T, m *Memory) {
	key, nonce := random(KeyBytes), random(NonceBytes)
	ad, text := random(43), random(int(random(1)[0]))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Error(err)
		return
	}
	want, err := cipher.NewGCM(block)
	if err != nil {
		t.Error(err)
		return
	}
	a, err := m.NewAEAD(key)
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Destroy()
	sealed := a.Seal(nil, nonce, text, ad)
	if !bytes.Equal(sealed, want.Seal(nil, nonce, text, ad)) {
		t.Error("sealed differs")
	}
	if got, err := a.Open(nil, nonce, sealed, ad); err != nil || !bytes.Equal(got, text) {
		t.Error("opened differs", err)
	}
	b, err := m.NewBlock(key)
	if err != nil {
		t.Error(err)
		return
	}
	defer b.Destroy()
	plain, got, wanted := random(64), make([]byte, 64), make([]byte, 64)
	b.EncryptAll(got, plain)
	for i := 0; i < 64; i += 16 {
		block.Encrypt(wanted[i:], plain[i:i+16])
	}
	if !bytes.Equal(got, wanted) {
		t.Error("blocks differ")
	}
	b.Decrypt(got, got)
	if !bytes.Equal(got[:16], plain[:16]) {
		t.Error("decrypted block differs")
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestOpenRefuses(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	a, err := m.NewAEAD(random(KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	nonce, ad := random(NonceBytes), []byte("header")
	good := a.Seal(nil, nonce, []byte(marker), ad)
	dst := make([]byte, 0, 64)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := a.Open(dst, nonce, bad, ad); err == nil {
			t.Fatalf("opens with bit %d changed", i*8)
		}
		if !bytes.Equal(dst[:cap(dst)], make([]byte, 64)) {
			t.Fatal("plaintext is left behind after a failure")
		}
	}
	for n := range good {
		if _, err := a.Open(dst, nonce, good[:n], ad); err == nil {
			t.Fatalf("opens when cut to %d bytes", n)
		}
	}
	if _, err := a.Open(dst, nonce, good, ad[1:]); err == nil {
		t.Error("opens with other additional data")
	}
	for _, n := range []int{0, 11, 13} {
		wantPanic(t, "wrong nonce length", func() { _, _ = a.Open(dst, make([]byte, n), good, ad) })
	}
}

func TestKeyLengths(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	for _, n := range []int{0, 16, 24, 31, 33} {
		if _, err := m.NewAEAD(make([]byte, n)); err == nil {
			t.Errorf("aead with a key of %d bytes", n)
		}
		if _, err := m.NewBlock(make([]byte, n)); err == nil {
			t.Errorf("block with a key of %d bytes", n)
		}
	}
}

// TestDestroyedCipherIsUseless: a wiped state that still worked would seal
// under a key of zeros.
func TestDestroyedCipherIsUseless(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	a, err := m.NewAEAD(random(KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.NewBlock(random(KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	a.Destroy()
	a.Destroy()
	b.Destroy()
	b.Destroy()
	if !bytes.Equal(m.keys.mem.bytes(), make([]byte, m.keys.mem.n)) {
		t.Error("key memory is not zero after the last Destroy")
	}
	wantPanic(t, "Seal", func() { a.Seal(nil, make([]byte, NonceBytes), nil, nil) })
	wantPanic(t, "Encrypt", func() { b.Encrypt(make([]byte, 16), make([]byte, 16)) })
}

func wantPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

// TestCiphersDoNotAllocate holds for the calls of the hot path.
func TestCiphersDoNotAllocate(t *testing.T) {
	m := openTest(t, Config{Limit: 1 << 20, Lock: LockOff})
	a, err := m.NewAEAD(random(KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.NewBlock(random(KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := m.NewSecret(32)
	if err != nil {
		t.Fatal(err)
	}
	nonce, ad, text, dst := random(NonceBytes), random(43), random(32), make([]byte, 0, 64)
	sealed := a.Seal(nil, nonce, text, ad)
	use := func([]byte) {}
	for name, f := range map[string]func(){
		"Open":    func() { _, _ = a.Open(dst, nonce, sealed, ad) },
		"Seal":    func() { a.Seal(dst, nonce, text, ad) },
		"Encrypt": func() { b.Encrypt(text[:16], text[:16]) },
		"Use":     func() { secret.Use(use) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestRelocate moves a state of our own making.
func TestRelocate(t *testing.T) {
	type state struct {
		rounds int
		keys   [8]uint32
		nested struct{ flag bool }
	}
	heap := newKeyHeap(make([]byte, 4096))
	original := &state{rounds: 14, keys: [8]uint32{1, 2, 3, 4, 5, 6, 7, 8}}
	original.nested.flag = true
	want := *original
	moved, mem, err := relocate(heap, original)
	if err != nil {
		t.Fatal(err)
	}
	if got := *moved.(*state); got != want {
		t.Errorf("moved state is %+v, want %+v", got, want)
	}
	if *original != (state{}) {
		t.Error("the original is not wiped")
	}
	heap.give(mem)
	if *moved.(*state) != (state{}) {
		t.Error("the state was not moved into the heap given")
	}
}

// TestPointersAreFound covers what a Go release could add to a cipher state.
func TestPointersAreFound(t *testing.T) {
	for _, v := range []any{
		struct{ p *int }{}, struct{ s []byte }{}, struct{ s string }{}, struct{ m map[int]int }{},
		struct{ c chan int }{}, struct{ f func() }{}, struct{ i any }{}, struct{ a [2]struct{ p *int } }{},
		struct{ u reflect.Value }{},
	} {
		typ := reflect.TypeOf(v)
		if pointerFree(typ) == nil {
			t.Errorf("%v passes as free of pointers", typ)
		}
		original := reflect.New(typ).Interface()
		if _, _, err := relocate(newKeyHeap(make([]byte, 4096)), original); err == nil {
			t.Errorf("%v was moved", typ)
		}
	}
	if _, _, err := relocate(newKeyHeap(make([]byte, 4096)), 5); err == nil {
		t.Error("an integer was moved")
	}
}

func TestSecret(t *testing.T) {
	backends(t, func(t *testing.T, m *Memory) {
		s, err := m.NewSecret(100)
		if err != nil {
			t.Fatal(err)
		}
		var inside []byte
		s.Use(func(b []byte) { copy(b, marker); inside = b })
		s.Use(func(b []byte) {
			if len(b) != 100 || cap(b) != 100 || string(b[:len(marker)]) != marker {
				t.Errorf("secret is %d bytes, cap %d, or changed", len(b), cap(b))
			}
		})
		s.Destroy()
		s.Destroy()
		if !bytes.Equal(inside, make([]byte, 100)) {
			t.Error("Destroy did not wipe")
		}
		wantPanic(t, "Use after Destroy", func() { s.Use(func([]byte) {}) })
		for _, n := range []int{-1, 0, MaxSecret + 1} {
			if _, err := m.NewSecret(n); err == nil {
				t.Errorf("secret of %d bytes", n)
			}
		}
	})
}

func TestKeyMemoryFull(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	var all []*Secret
	for {
		s, err := m.NewSecret(1000)
		if errors.Is(err, cloakroom.ErrMemoryFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Use(func(b []byte) {
			if !bytes.Equal(b, make([]byte, 1000)) {
				t.Fatal("secrets overlap, or are not zero")
			}
			for i := range b {
				b[i] = 0xff
			}
		})
		all = append(all, s)
	}
	if want := keyBytesLarge / 1024 * 3 / 4; len(all) < want {
		t.Errorf("room for %d secrets, want at least %d", len(all), want)
	}
	for _, s := range all {
		s.Destroy()
	}
	if got := m.keys.inUse(); got != 0 {
		t.Errorf("%d bytes are left in use", got)
	}
}
