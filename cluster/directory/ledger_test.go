package directory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloakroom"
)

// entered applies a RecordErasures and checks its code, and that it leaves
// view and epoch alone whatever it comes to.
func (l *feeder) entered(code Code, entries ...Erasure) Result {
	l.t.Helper()
	before := l.Load()
	got := l.do(recordErasures(entries...))
	if got.Code != code || got.Epoch != before.Epoch || got.SchemaEpoch != before.Schema.Epoch {
		l.t.Fatalf("got %+v, want code %d at epoch %d", got, code, before.Epoch)
	}
	if l.Load() != before {
		l.t.Fatal("a view was published")
	}
	return got
}

// stands checks what the ledger says, in order.
func (l *feeder) stands(want ...Erasure) {
	l.t.Helper()
	got := slices.Collect(l.Erasures())
	if !reflect.DeepEqual(got, want) || l.ErasureCount() != len(want) {
		l.t.Fatalf("the ledger, %d rows:\n got %+v\nwant %+v", l.ErasureCount(), got, want)
	}
}

func newRecorder(t testing.TB) *feeder {
	l := newFeeder(t)
	l.want(Done, schema(0, text("name"), text("email"), text("phone"))) // 2, 3, 4
	return l
}

func TestErasuresAreRecordedOnce(t *testing.T) {
	l := newRecorder(t)
	l.entered(Done, erasureOf(1, 10), erasureOf(2, 11))
	l.entered(Already, erasureOf(1, 10))
	l.entered(Already, erasureOf(2, 11), erasureOf(1, 10), erasureOf(1, 10))
	l.entered(Already, erasureOf(1, 99))                // erased again: it was erased before
	l.entered(Done, erasureOf(2, 11), erasureOf(3, 12)) // in part known
	l.entered(Done, erasureOf(4, 13), erasureOf(4, 13)) // twice in one command
	other := erasureOf(1, 10)                           // of another shard
	other.Shard = 2
	l.entered(Done, other)
	l.stands(erasureOf(1, 10), erasureOf(2, 11), erasureOf(3, 12), erasureOf(4, 13), other)
}

func TestErasuresOfFieldsKeepTheLastOfEach(t *testing.T) {
	l := newRecorder(t)
	l.entered(Done, erasureOf(1, 10, 2, 3))
	l.entered(Already, erasureOf(1, 10, 2, 3))
	l.entered(Already, erasureOf(1, 9, 2)) // late on its way
	l.entered(Done, erasureOf(1, 20, 3, 4))
	l.stands(erasureOf(1, 10, 2), erasureOf(1, 20, 3), erasureOf(1, 20, 4))
	l.entered(Done, erasureOf(1, 30))
	l.entered(Already, erasureOf(1, 40, 2)) // nothing is left of the subject
	l.stands(erasureOf(1, 10, 2), erasureOf(1, 20, 3), erasureOf(1, 20, 4), erasureOf(1, 30))
}

func TestErasuresOfRetiredFieldsAreRecorded(t *testing.T) {
	l := newRecorder(t)
	l.want(Done, schema(1, text("name")))
	l.entered(Done, erasureOf(1, 10, 3))
	l.stands(erasureOf(1, 10, 3))
}

func TestErasuresAreRefusedWhole(t *testing.T) {
	change := func(what func(*Erasure)) Erasure {
		e := erasureOf(9, 10, 2, 3)
		what(&e)
		return e
	}
	tests := map[string]Erasure{
		"subject":          change(func(e *Erasure) { e.Subject = cloakroom.Token{} }),
		"shard":            change(func(e *Erasure) { e.Shard = 4 }),
		"unknown gen":      change(func(e *Erasure) { e.Generation = 0 }),
		"later generation": change(func(e *Erasure) { e.Generation = 2 }),
		"index":            change(func(e *Erasure) { e.Index = 0 }),
		"time":             change(func(e *Erasure) { e.At = -1 }),
		"out of range":     change(func(e *Erasure) { e.At = maxAt }),
		"ascend":           change(func(e *Erasure) { e.Fields = []cloakroom.FieldNumber{3, 2} }),
		"do not ascend":    change(func(e *Erasure) { e.Fields = []cloakroom.FieldNumber{3, 3} }),
		"never declared":   change(func(e *Erasure) { e.Fields = []cloakroom.FieldNumber{2, 5} }),
		"declared":         change(func(e *Erasure) { e.Fields = []cloakroom.FieldNumber{0} }),
		"fields":           change(func(e *Erasure) { e.Fields = make([]cloakroom.FieldNumber, cloakroom.MaxFields+1) }),
	}
	l := newRecorder(t)
	for name, bad := range tests {
		got := l.entered(Invalid, erasureOf(1, 10), bad)
		if !strings.HasPrefix(got.Detail, "erasure 1: ") {
			t.Errorf("%s: %s", name, got.Detail)
		}
	}
	l.entered(Invalid)
	l.entered(Invalid, make([]Erasure, MaxRecorded+1)...)
	l.stands()
	early, _ := recordErasures(erasureOf(1, 10)).Append(nil)
	if got := New().Apply(1, early); got.Code != Invalid {
		t.Errorf("before there is a cluster: %+v", got)
	}
}

// The largest command there can be fits its bound.
func TestTheMostErasuresFitOneCommand(t *testing.T) {
	entries := make([]Erasure, MaxRecorded)
	for i := range entries {
		e := &entries[i]
		*e = Erasure{Subject: cloakroom.Token{0xff}, Shard: math.MaxUint16, Generation: math.MaxUint32, Index: math.MaxUint64, At: maxAt - 1}
		for f := range cloakroom.MaxFields {
			e.Fields = append(e.Fields, cloakroom.FieldNumber(math.MaxUint16-f))
		}
	}
	data, err := recordErasures(entries...).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back Command
	if err := Decode(data, &back); err != nil || !reflect.DeepEqual(back.RecordErasures.Entries, entries) {
		t.Fatalf("decode: %v", err)
	}
}

// numbered is the row of the nth erasure of a test.
func numbered(n uint64, index uint64) row {
	e := erasureOf(1, index)
	binary.BigEndian.PutUint64(e.Subject[:], n*0x9e3779b97f4a7c15+1) // spread, as tokens are
	return e.row(cloakroom.SubjectField)
}

// fill makes an empty ledger hold that many rows, as entering them would.
func fill(l *ledger, rows int) {
	for n := range rows {
		if n%chunkRows == 0 {
			l.chunks = append(l.chunks, &chunk{})
		}
		l.chunks[n/chunkRows].rows[n%chunkRows] = numbered(uint64(n), 5)
	}
	for l.count = rows; 4*rows > 3*len(l.places); {
		l.places = make([]uint32, max(64, 2*len(l.places)))
	}
	for n := range rows {
		l.place(n)
	}
}

// A full ledger refuses what is new and nothing else, fits a snapshot, and a
// row costs little more than its bytes.
func TestTheLedgerIsBoundedAndSmall(t *testing.T) {
	l := newRecorder(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fill(&l.ledger, MaxErasures-1)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / MaxErasures
	t.Logf("%.1f bytes a row", each)
	if each > 56 {
		t.Errorf("%.1f bytes a row", each)
	}
	l.entered(Done, erasureOf(1, 10))
	l.entered(Already, erasureOf(1, 10))
	got := l.entered(Exhausted, erasureOf(1, 10), erasureOf(2, 11))
	if !strings.Contains(got.Detail, "ledger") {
		t.Errorf("detail: %s", got.Detail)
	}
	if size, err := l.Snapshot().WriteTo(io.Discard); err != nil || size > MaxSnapshotBytes/2*3/2 {
		t.Errorf("a snapshot of %d bytes leaves the view too little, %v", size, err)
	}
}

// Whoever reads sees the ledger of one moment, whatever comes meanwhile.
func TestTheLedgerIsReadAsItWas(t *testing.T) {
	l := newRecorder(t)
	for i := range 2 * chunkRows {
		e := erasureOf(0, 10, 2)
		binary.BigEndian.PutUint16(e.Subject[:], uint16(i+1))
		l.entered(Done, e)
	}
	was := image(t, l.Machine)
	held, rows := l.Snapshot(), l.Erasures()
	var reading sync.WaitGroup
	var again bytes.Buffer
	reading.Go(func() {
		if _, err := held.WriteTo(&again); err != nil {
			t.Errorf("WriteTo: %v", err)
		}
	})
	reading.Go(func() {
		n := 0
		for e := range rows {
			if e.Index != 10 {
				t.Errorf("row %d changed under its reader", n)
				return
			}
			n++
		}
		if n != 2*chunkRows {
			t.Errorf("read %d rows", n)
		}
	})
	for i := range 3 * chunkRows { // changes rows, and appends
		e := erasureOf(0, 20, 2)
		binary.BigEndian.PutUint16(e.Subject[:], uint16(i+1))
		l.entered(Done, e)
	}
	reading.Wait()
	if !bytes.Equal(again.Bytes(), was) {
		t.Error("a snapshot changed after it was taken")
	}
	for e := range l.Erasures() {
		if e.Index != 20 {
			t.Fatalf("a row was not changed: %+v", e)
		}
	}
}

func TestRowsSayWhatWasRecorded(t *testing.T) {
	for _, e := range []Erasure{erasureOf(1, 10), erasureOf(0xff, 1<<40, 65),
		{Subject: cloakroom.Token{15: 1}, Shard: 63, Generation: math.MaxUint32, Index: math.MaxUint64, At: maxAt - 1}} {
		f := cloakroom.SubjectField
		if len(e.Fields) > 0 {
			f = e.Fields[0]
		}
		r := e.row(f)
		if got := r.erasure(); !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, want %+v", got, e)
		}
	}
}

func TestErasuresGoOnAfterARestore(t *testing.T) {
	a := newRecorder(t)
	a.entered(Done, erasureOf(1, 10), erasureOf(2, 11, 3))
	b := newRecorder(t)
	b.entered(Done, erasureOf(7, 70)) // of a state that goes
	old := b.Erasures()
	if err := b.Restore(bytes.NewReader(image(t, a.Machine))); err != nil {
		t.Fatal(err)
	}
	b.stands(erasureOf(1, 10), erasureOf(2, 11, 3))
	b.entered(Already, erasureOf(1, 10))
	b.entered(Done, erasureOf(2, 12, 3), erasureOf(3, 13))
	b.stands(erasureOf(1, 10), erasureOf(2, 12, 3), erasureOf(3, 13))
	if got := slices.Collect(old); len(got) != 1 || got[0].Index != 70 {
		t.Errorf("what was read before changed: %+v", got)
	}
	if err := b.Restore(bytes.NewReader([]byte("x"))); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	b.stands(erasureOf(1, 10), erasureOf(2, 12, 3), erasureOf(3, 13))
}

func BenchmarkApplyErasures(b *testing.B) {
	for _, n := range []int{1, 16, MaxRecorded} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newRecorder(b)
			entries := make([]Erasure, n)
			var serial uint64
			for b.Loop() {
				b.StopTimer()
				for i := range entries {
					serial++
					entries[i] = erasureOf(1, serial)
					binary.BigEndian.PutUint64(entries[i].Subject[8:], serial)
				}
				data, err := recordErasures(entries...).Append(nil)
				if err != nil {
					b.Fatal(err)
				}
				if l.ErasureCount()+n > MaxErasures {
					l.ledger.replace(&ledger{})
				}
				b.StartTimer()
				if got := l.Apply(serial, data); got.Code != Done {
					b.Fatalf("%+v", got)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/erasure")
		})
	}
}
