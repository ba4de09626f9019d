package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/securemem/keyring"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenCases are sealed in this order by a room whose keys and nonces count.
var goldenCases = []struct {
	name   string
	tok    cloakroom.Token
	field  cloakroom.FieldNumber
	domain cloakroom.Domain
	expiry uint32
	fine   bool
	value  string
}{
	{"plain", cloakroom.Token{0xde, 0xad}, 2, 0, 0, false, "Ada Augusta King-Lovelace"},
	{"days", cloakroom.Token{0xbe, 0xef}, 3, 513, 1_800_000_000, false, "ada@example.org"},
	{"seconds", cloakroom.Token{0xbe, 0xef}, 4, 1, 1_800_000_001, true, "+14155550123"},
	{"short", cloakroom.Token{}, 65535, 65535, 0, true, "A"},
	{"long", cloakroom.Token{1}, 7, 2, 0, false, strings.Repeat("0123456789", 10)},
}

const (
	goldenRecords = "testdata/record-1.golden"
	goldenBatch   = "testdata/batch-1.golden"
)

// TestGoldenRecords holds format 1: what was sealed once is sealed the same
// today, and opens for good.
func TestGoldenRecords(t *testing.T) {
	room, _ := newTestRoom(t, true)
	var got strings.Builder
	for _, c := range goldenCases {
		rec, err := room.Seal(nil, c.tok, c.field, c.domain, c.expiry, c.fine, []byte(c.value))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %x\n", c.name, rec)
	}
	want := golden(t, goldenRecords, got.String())
	for i, line := range strings.Split(strings.TrimSpace(want), "\n") {
		c := goldenCases[i]
		rec := unhex(t, strings.TrimPrefix(line, c.name+" "))
		value, h, err := room.Open(make([]byte, 0, len(rec)), c.tok, c.field, rec)
		if err != nil || string(value) != c.value {
			t.Errorf("%s: opens to %q, %v", c.name, value, err)
		}
		expiry := c.expiry
		if !c.fine && expiry != 0 {
			expiry = uint32(time.Unix(int64(expiry), 0).UTC().Truncate(24 * time.Hour).Unix())
		}
		if h != (Header{Epoch: 1, Sealing: 7, Domain: c.domain, Expiry: expiry, Fine: c.fine && expiry != 0}) {
			t.Errorf("%s: header = %+v", c.name, h)
		}
	}
}

func TestGoldenBatch(t *testing.T) {
	room, _ := newTestRoom(t, true)
	batch := []byte("\x01\x00\x00\x00\x00 stands for a batch of commands")
	sealed, err := room.SealBatch(nil, 3, 9, batch)
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, goldenBatch, fmt.Sprintf("%x\n", sealed))
	got, err := room.OpenBatch(nil, 3, 9, unhex(t, strings.TrimSpace(want)))
	if err != nil || !bytes.Equal(got, batch) {
		t.Errorf("OpenBatch = %q, %v", got, err)
	}
}

func golden(t *testing.T, path, got string) (want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(text) {
		t.Errorf("%s: got\n%swant\n%s", path, got, text)
	}
	return string(text)
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCoarseExpiryIsNeverLater(t *testing.T) {
	for _, expiry := range []uint32{1, day0 - 1, day0, day0 + 1, day0 + secondsPerDay - 1, day0 + secondsPerDay, 1_800_000_000, 1<<32 - 1} {
		h := Header{Expiry: expiry}
		rec := append(h.append(nil), make([]byte, nonceBytes+minClass+tagBytes)...)
		got, err := ParseHeader(rec)
		if err != nil {
			t.Fatal(err)
		}
		want := max(expiry, day0) - (max(expiry, day0)-day0)%secondsPerDay
		if got.Expiry != want || got.Fine {
			t.Errorf("expiry %d: got %d, want %d", expiry, got.Expiry, want)
		}
	}
}

func TestClasses(t *testing.T) {
	for _, c := range []struct{ value, want int }{
		{0, 16}, {14, 16}, {15, 32}, {30, 32}, {31, 64}, {62, 64}, {63, 128}, {126, 128}, {127, 192}, {MaxValueBytes, 65536},
	} {
		if got := class(c.value); got != c.want || !isClass(got) {
			t.Errorf("class(%d) = %d, want %d", c.value, got, c.want)
		}
	}
	for _, n := range []int{-64, 0, 1, 15, 17, 48, 65, 96, maxClass + 64} {
		if isClass(n) {
			t.Errorf("isClass(%d)", n)
		}
	}
}

// Every change of a record, of its token, field or cluster makes it unreadable.
func TestOpenRefusesEveryChange(t *testing.T) {
	room, _ := newTestRoom(t, false)
	tok := cloakroom.Token{9, 8, 7}
	rec, err := room.Seal(nil, tok, 5, 1, 1_800_000_000, true, []byte("Ada Lovelace"))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 2*len(rec))
	refused := func(err error) bool { return errors.Is(err, ErrRecord) || errors.Is(err, keyring.ErrUnknownKey) }
	for i := range rec {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(rec)
			changed[i] ^= bit
			if value, _, err := room.Open(dst, tok, 5, changed); !refused(err) || value != nil {
				t.Fatalf("byte %d changed: %q, %v", i, value, err)
			}
		}
	}
	for n := range rec {
		if _, _, err := room.Open(dst, tok, 5, rec[:n]); !refused(err) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := room.Open(dst, tok, 5, append(bytes.Clone(rec), make([]byte, 64)...)); !refused(err) {
		t.Errorf("made longer: %v", err)
	}
	if _, _, err := room.Open(dst, tok, 6, rec); !errors.Is(err, ErrRecord) {
		t.Errorf("as another field: %v", err)
	}
	if _, _, err := room.Open(dst, cloakroom.Token{9, 8}, 5, rec); !errors.Is(err, ErrRecord) {
		t.Errorf("under another token: %v", err)
	}
	room.cluster[0] ^= 1
	elsewhere := newOpener(room)
	elsewhere.ad.setField(5)
	if _, _, err := elsewhere.Open(dst, &tok, rec); !errors.Is(err, ErrRecord) {
		t.Errorf("in another cluster: %v", err)
	}
}

// Plaintext that outgrew dst would be moved to the heap.
func TestOpenNeverMovesDst(t *testing.T) {
	room, _ := newTestRoom(t, false)
	rec, err := room.Seal(nil, cloakroom.Token{}, 2, 0, 0, false, []byte("Ada"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := room.Open(make([]byte, 3, 3+len(rec)-1), cloakroom.Token{}, 2, rec); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("Open into a short dst = %v, want ErrTooLarge", err)
	}
	dst := make([]byte, 3, 3+len(rec))
	value, _, err := room.Open(dst, cloakroom.Token{}, 2, rec)
	if err != nil || &value[0] != &dst[:6][5] {
		t.Errorf("Open = %q, %v, want it at dst[5]", value, err)
	}
}

// A record that authenticates but is padded in another way was not made by Seal.
func TestUnpadWantsTheOneForm(t *testing.T) {
	plain := func(length, padded int) []byte {
		b := make([]byte, padded)
		b[0], b[1] = byte(length>>8), byte(length)
		return b
	}
	if _, ok := unpad(plain(5, 16)); !ok {
		t.Error("the one form is refused")
	}
	stray := plain(5, 16)
	stray[15] = 1
	for name, b := range map[string][]byte{
		"a larger class": plain(5, 32), "too long": plain(15, 16), "far too long": plain(65535, 64), "a stray byte": stray,
	} {
		if _, ok := unpad(b); ok {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestHeaderRefuses(t *testing.T) {
	room, _ := newTestRoom(t, false)
	rec, err := room.Seal(nil, cloakroom.Token{}, 2, 0, 0, false, []byte("Ada"))
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []byte{0x00, 0x20, 0x10 | flagSlow, 0x18, 0x10 | flagDays | flagSeconds} {
		changed := bytes.Clone(rec)
		changed[0] = first
		if _, err := ParseHeader(changed); !errors.Is(err, ErrRecord) {
			t.Errorf("first byte %#x: %v, want ErrRecord", first, err)
		}
	}
	zero := (&Header{Expiry: 1, Fine: true}).append(nil)
	zero[12] = 0
	if _, err := ParseHeader(append(zero, make([]byte, 44)...)); !errors.Is(err, ErrRecord) {
		t.Errorf("a flagged expiry of 0: %v, want ErrRecord", err)
	}
}

func TestBatchOpensOnlyWhereItBelongs(t *testing.T) {
	room, _ := newTestRoom(t, false)
	for _, n := range []int{0, 1, 252, 253, 1000, 70_000, MaxBatchBytes} {
		batch := bytes.Repeat([]byte{'b'}, n)
		sealed, err := room.SealBatch([]byte("before"), 3, 9, batch)
		if err != nil {
			t.Fatal(err)
		}
		if string(sealed[:6]) != "before" {
			t.Fatal("SealBatch changed dst")
		}
		sealed = sealed[6:]
		if bytes.Contains(sealed, []byte("bbbb")) {
			t.Fatalf("%d bytes: plaintext in the sealed batch", n)
		}
		if waste := len(sealed) - n - batchHeaderBytes - nonceBytes - tagBytes; n > 1000 && waste > n/4+batchLengthBytes {
			t.Errorf("%d bytes: %d bytes of padding", n, waste)
		}
		got, err := room.OpenBatch([]byte("before"), 3, 9, sealed)
		if err != nil || string(got[:6]) != "before" || !bytes.Equal(got[6:], batch) {
			t.Fatalf("%d bytes: OpenBatch = %d bytes, %v", n, len(got), err)
		}
		if _, err := room.OpenBatch(nil, 4, 9, sealed); !errors.Is(err, ErrBatch) {
			t.Errorf("another group: %v", err)
		}
		if _, err := room.OpenBatch(nil, 3, 10, sealed); !errors.Is(err, ErrBatch) {
			t.Errorf("another generation: %v", err)
		}
		sealed[len(sealed)-1] ^= 1
		if _, err := room.OpenBatch(nil, 3, 9, sealed); !errors.Is(err, ErrBatch) {
			t.Errorf("a changed tag: %v", err)
		}
	}
	if _, err := room.SealBatch(nil, 0, 0, make([]byte, MaxBatchBytes+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("a larger batch: %v, want ErrTooLarge", err)
	}
	if _, err := room.OpenBatch(nil, 0, 0, nil); !errors.Is(err, ErrBatch) {
		t.Errorf("nothing: %v, want ErrBatch", err)
	}
}

// Two seals of one value share nothing but their header.
func TestNoncesDiffer(t *testing.T) {
	room, _ := newTestRoom(t, false)
	seen := make(map[string]bool)
	for range 1000 {
		rec, err := room.Seal(nil, cloakroom.Token{}, 2, 0, 0, false, []byte("Ada"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := string(rec[fixedHeader : fixedHeader+nonceBytes])
		if seen[nonce] {
			t.Fatal("a nonce twice")
		}
		seen[nonce] = true
	}
}
