package record

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
)

var testCluster = [16]byte{0xc1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// countingReader stands in for crypto/rand where golden files need the same
// bytes each time.
type countingReader struct{ n byte }

func (r *countingReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.n
		r.n++
	}
	return len(b), nil
}

// newTestRoom returns a room and its keyring; with golden, both make the same
// keys and nonces each time.
func newTestRoom(t testing.TB, golden bool) (*Room, *keyring.Keyring) {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	number := cloakroom.SealingNumber(6)
	kcfg := keyring.Config{Memory: mem, Cluster: testCluster, NextSealingNumber: func() (cloakroom.SealingNumber, error) {
		number++
		return number, nil
	}}
	cfg := Config{Memory: mem, Cluster: testCluster}
	if golden {
		kcfg.Rand = &countingReader{}
		cfg.Rand = &countingReader{n: 0xa0}
	}
	keys, err := keyring.New(kcfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	cfg.Keyring = keys
	room, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(room.Close)
	return room, keys
}

func TestSealThenOpen(t *testing.T) {
	room, _ := newTestRoom(t, false)
	tok := cloakroom.Token{1, 2, 3}
	for _, n := range []int{0, 1, 13, 14, 15, 29, 30, 31, 62, 63, 1021, 1022, 1023, MaxValueBytes} {
		value := bytes.Repeat([]byte{'x'}, n)
		rec, err := room.Seal([]byte("before"), tok, 2, 7, 0, false, value)
		if err != nil {
			t.Fatal(err)
		}
		rec = rec[len("before"):]
		if len(rec) != SealedSize(n, 0, false) {
			t.Errorf("%d bytes: record has %d bytes, SealedSize says %d", n, len(rec), SealedSize(n, 0, false))
		}
		got, h, err := room.Open(make([]byte, 0, len(rec)), tok, 2, rec)
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%d bytes: Open = %d bytes, %v", n, len(got), err)
		}
		if h.Domain != 7 || h.Expiry != 0 || h.Epoch != 1 {
			t.Errorf("%d bytes: header = %+v", n, h)
		}
	}
	if _, err := room.Seal(nil, tok, 2, 0, 0, false, make([]byte, MaxValueBytes+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("a longer value: %v, want ErrTooLarge", err)
	}
}

func TestOneNameTakes69Bytes(t *testing.T) {
	if got, want := SealedSize(25, 0, false), 69; got != want {
		t.Errorf("record of a 25-byte name has %d bytes, want %d", got, want)
	}
}

func TestTokens(t *testing.T) {
	room, _ := newTestRoom(t, false)
	ids, toks, _ := benchRecords(t, room, 300)
	slots := make([]cloakroom.Slot, len(ids))
	room.Slots(ids, slots)
	seen := make(map[cloakroom.Token]bool)
	different := 0
	for i, id := range ids {
		one, err := room.Token(2, id)
		if err != nil || one != toks[i] {
			t.Fatalf("Token = %x, %v, Tokens gave %x", one, err, toks[i])
		}
		if back, err := room.IDOf(2, one); err != nil || back != id {
			t.Fatalf("IDOf = %x, %v, want %x", back, err, id)
		}
		other, err := room.Token(3, id)
		if err != nil || other == one || seen[one] || seen[other] {
			t.Fatalf("tokens of two fields: %x, %x, %v", one, other, err)
		}
		seen[one], seen[other] = true, true
		if s := room.Slot(id); s != slots[i] || s >= cloakroom.Slots {
			t.Fatalf("Slot = %d, Slots gave %d", s, slots[i])
		}
		if slots[i] != slots[0] {
			different++
		}
	}
	if different < 250 {
		t.Errorf("%d of 300 slots differ from the first", different)
	}
}

func TestReadsDoNotAllocate(t *testing.T) {
	room, _ := newTestRoom(t, false)
	ids, toks, recs := benchRecords(t, room, 10)
	slots := make([]cloakroom.Slot, len(ids))
	dst := make([]byte, 0, 512)
	for name, f := range map[string]func(){
		"Tokens": func() { _ = room.Tokens(2, ids, toks) },
		"Slots":  func() { room.Slots(ids, slots) },
		"Token":  func() { _, _ = room.Token(2, ids[0]) },
		"Slot":   func() { _ = room.Slot(ids[0]) },
		"Open":   func() { _, _, _ = room.Open(dst, toks[0], 2, recs[0]) },
		"Opener": func() {
			securemem.Do(func() {
				o := room.Opener(2)
				for i := range recs {
					if _, _, err := o.Open(dst, &toks[i], recs[i]); err != nil {
						t.Error(err)
					}
				}
				o.Close()
			})
		},
		"Seal": func() { _, _ = room.Seal(dst, toks[0], 2, 0, 0, false, ids[0][:]) },
		"Check": func() {
			for typ, value := range checked {
				_ = Check(typ, value, 100)
			}
		},
		"Mask": func() {
			for typ, value := range checked {
				_, _ = Mask(dst, typ, value)
			}
		},
	} {
		if n := testing.AllocsPerRun(50, f); n >= 1 { // a collection may empty the pools once
			t.Errorf("%s costs %v allocations", name, n)
		}
	}
}

var checked = map[Type][]byte{
	Text: []byte("Ada Lovelace"), Email: []byte("ada@example.org"), Phone: []byte("+14155550123"),
	Date: []byte("1815-12-10"), JSON: []byte(`{"a":"b"}`), Sealed: []byte("\x00\x01"),
}

// Pads hold a value only while it is sealed.
func TestPadsAreWiped(t *testing.T) {
	room, _ := newTestRoom(t, false)
	value := bytes.Repeat([]byte("Ada Lovelace"), 200)
	for _, n := range []int{12, 900, 2400} {
		for range 8 {
			if _, err := room.Seal(nil, cloakroom.Token{}, 2, 0, 0, false, value[:n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	wiped := func(pad []byte) {
		if len(bytes.Trim(pad, "\x00")) > 0 {
			t.Errorf("a pad of %d bytes is not wiped", len(pad))
		}
	}
	for _, s := range room.pads.all {
		s.Use(wiped)
	}
	large := <-room.pads.large
	wiped(large.Bytes())
	room.pads.large <- large
}

func TestManySealAndOpenAtOnce(t *testing.T) {
	room, keys := newTestRoom(t, false)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			dst := make([]byte, 0, 4096)
			tok := cloakroom.Token{byte(g)}
			for i := range 200 {
				value := bytes.Repeat([]byte{byte(g)}, 1+i*7)
				rec, err := room.Seal(nil, tok, 2, 0, 0, false, value)
				if err != nil {
					t.Error(err)
					return
				}
				if got, _, err := room.Open(dst, tok, 2, rec); err != nil || !bytes.Equal(got, value) {
					t.Errorf("Open = %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			if err := keys.Rotate(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestNewReportsEveryFault(t *testing.T) {
	_, err := New(Config{Pads: 65})
	if err == nil {
		t.Fatal("New of nothing succeeded")
	}
	for _, want := range []string{"keyring", "memory", "cluster id", "65 pads"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %q, does not mention %s", err, want)
		}
	}
}
