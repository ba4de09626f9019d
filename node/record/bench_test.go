package record

import (
	"testing"

	"cloakroom"
	"cloakroom/securemem"
)

// benchRecords seals n names and returns what a resolve of them handles.
func benchRecords(b testing.TB, room *Room, n int) (ids []cloakroom.Pseudonym, toks []cloakroom.Token, recs [][]byte) {
	b.Helper()
	ids = make([]cloakroom.Pseudonym, n)
	toks = make([]cloakroom.Token, n)
	for i := range ids {
		ids[i] = cloakroom.Pseudonym{byte(i), byte(i >> 8), 0xff}
		ids[i].SetRandomForm()
	}
	if err := room.Tokens(2, ids, toks); err != nil {
		b.Fatal(err)
	}
	for i := range ids {
		rec, err := room.Seal(nil, toks[i], 2, 0, 0, false, []byte("Ada Augusta King-Lovelace"))
		if err != nil {
			b.Fatal(err)
		}
		recs = append(recs, rec)
	}
	return ids, toks, recs
}

func BenchmarkTokens100(b *testing.B) {
	room, _ := newTestRoom(b, false)
	ids, toks, _ := benchRecords(b, room, 100)
	b.ReportAllocs()
	for b.Loop() {
		_ = room.Tokens(2, ids, toks)
	}
}

func BenchmarkOpen100(b *testing.B) {
	room, _ := newTestRoom(b, false)
	_, toks, recs := benchRecords(b, room, 100)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		securemem.Do(func() {
			o := room.Opener(2)
			for i := range recs {
				if _, _, err := o.Open(dst, &toks[i], recs[i]); err != nil {
					b.Fatal(err)
				}
			}
			o.Close()
		})
	}
}

func BenchmarkOpenSingle(b *testing.B) {
	room, _ := newTestRoom(b, false)
	_, toks, recs := benchRecords(b, room, 1)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := room.Open(dst, toks[0], 2, recs[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	room, _ := newTestRoom(b, false)
	dst := make([]byte, 0, 1024)
	value := []byte("Ada Augusta King-Lovelace")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := room.Seal(dst, cloakroom.Token{1}, 2, 0, 0, false, value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealBatch4K(b *testing.B) {
	room, _ := newTestRoom(b, false)
	dst, batch := make([]byte, 0, 8192), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := room.SealBatch(dst, 1, 1, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		t     Type
		value string
	}{
		{Text, "Ada Augusta King-Lovelace"},
		{Email, "ada.lovelace@example.org"},
		{Phone, "+14155550123"},
		{Date, "1815-12-10"},
		{JSON, `{"street":"12 St James's Square","city":"London","zip":"SW1Y 4JH","lines":["a","b"]}`},
	} {
		b.Run(c.t.String(), func(b *testing.B) {
			value := []byte(c.value)
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(c.t, value, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
