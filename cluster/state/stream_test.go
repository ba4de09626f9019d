package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"cloakroom"
	"cloakroom/cluster/command"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleStream is the stream of a small state with every kind of record.
func sampleStream(t testing.TB) []byte {
	f := newFixture(t)
	f.do(command.Command{Kind: command.Time, Value: 1_800_000_000_123})
	p := put(one, field(name, "sealed name"), field(mail, "sealed mail"))
	p.SchemaEpoch, p.Expiry, p.Domain, p.KeyTag = 3, 1_900_000_000, 2, keyTag
	f.do(p)
	p = put(two, field(cloakroom.Token{3}, "x"))
	p.SchemaEpoch, p.Subject = 3, bob
	f.do(p)
	f.do(command.Command{Kind: command.Erase, SchemaEpoch: 4, Subject: bob, Version: one,
		Fields: []command.Field{field(cloakroom.Token{3}, "")}})
	b := bind(two, handle(handleH, "sealed id"), alias(aliasA, 9, "sealed id, too"))
	b.SchemaEpoch, b.Subject, b.Fields = 4, cloakroom.Token{0xc0}, nil
	f.do(b)
	return streamOf(t, f.Machine)
}

func streamOf(t testing.TB, m *Machine) []byte {
	t.Helper()
	v, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	var out bytes.Buffer
	if n, err := v.WriteTo(&out); err != nil || n != int64(out.Len()) {
		t.Fatalf("WriteTo = %d, %v, want %d bytes", n, err, out.Len())
	}
	return out.Bytes()
}

func TestStreamGolden(t *testing.T) {
	path := filepath.Join("testdata", "stream-1.golden")
	got := []byte(hex.EncodeToString(sampleStream(t)) + "\n")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("stream changed:\n got %s\nwant %s", got, want)
	}
}

func TestRestoreRefusesEveryFlippedByteAndEveryLength(t *testing.T) {
	stream := sampleStream(t)
	m := newMachine(t)
	used := m.Stats().Slab.Used
	refused := func(b []byte, what string, at int) {
		t.Helper()
		if err := m.Restore(bytes.NewReader(b)); !errors.Is(err, ErrStream) {
			t.Errorf("%s %d: Restore = %v, want ErrStream", what, at, err)
		}
	}
	for i := range stream {
		b := bytes.Clone(stream)
		b[i] ^= 0x10
		refused(b, "flipped byte", i)
		refused(stream[:i], "cut at", i)
	}
	refused(append(bytes.Clone(stream), 0), "longer than", len(stream))
	if s := m.Stats(); s.Records != 0 || s.Slab.Used != used {
		t.Errorf("refused streams left %d records, %d bytes, want 0 and %d", s.Records, s.Slab.Used, used)
	}
	if err := m.Restore(iotest.OneByteReader(bytes.NewReader(stream))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(streamOf(t, m), stream) {
		t.Error("the restored state writes another stream")
	}
}

// A state with a wrong order or twice the same token is refused even if its
// checksum is right.
func TestRestoreChecksMoreThanTheChecksum(t *testing.T) {
	record := func(first byte) []byte { return appendRecord(nil, &cloakroom.Token{first}, []byte("x"), 0) }
	erased := (&command.SubjectRecord{Erased: true}).Append(nil)
	linked := command.SubjectRecord{Links: append([]byte{byte(command.Handle)}, handleH[:]...)}
	handleRecord := appendRecord(nil, &handleH, []byte("\x30sealed"), subject)
	aliasRecord := appendRecord(nil, &handleH, []byte("\x20\x00\x09sealed"), subject)
	ofAda := appendRecord(nil, &ada, linked.Append(nil), subject)
	m := newMachine(t)
	for name, stream := range map[string][]byte{
		"tokens in wrong order": seal(header{records: 2}, record(2), record(1)),
		"token twice":           seal(header{records: 2}, record(1), record(1)),
		"more subjects":         seal(header{records: 1, living: 1}, record(1)),
		"mark as living":        seal(header{records: 1, living: 1}, appendRecord(nil, &ada, erased, subject)),
		"more than all":         seal(header{records: 1, living: 1, erased: 1}, record(1)),
		"bad subject":           seal(header{records: 1, living: 1}, appendRecord(nil, &ada, []byte("x"), subject)),
		"empty record":          seal(header{records: 1}, appendRecord(nil, &ada, nil, 0)),
		"handle of nobody":      seal(header{records: 1}, handleRecord),
		"alias of nobody":       seal(header{records: 1}, aliasRecord),
		"link to nothing":       seal(header{records: 1, living: 1}, ofAda),
		"link of another kind":  seal(header{records: 2, living: 1}, aliasRecord, ofAda),
		"handle as living":      seal(header{records: 1, living: 1}, handleRecord),
		"empty handle":          seal(header{records: 2, living: 1}, appendRecord(nil, &handleH, []byte("\x30"), subject), ofAda),
	} {
		if err := m.Restore(bytes.NewReader(stream)); !errors.Is(err, ErrStream) {
			t.Errorf("%s: Restore = %v, want ErrStream", name, err)
		}
	}
	for _, stream := range [][]byte{
		seal(header{records: 2}, record(1), record(2)),
		seal(header{records: 2, living: 1}, handleRecord, ofAda),
	} {
		if err := m.Restore(bytes.NewReader(stream)); err != nil {
			t.Errorf("a valid stream: %v", err)
		}
	}
}

// Only a forged stream makes two subjects list one handle. It must not stop the
// replicas that took it, nor take more away than there is.
func TestLinksThatWereForgedAreLeftAlone(t *testing.T) {
	links := append([]byte{byte(command.Handle)}, handleH[:]...)
	links = append(append(links, byte(command.Alias)), aliasA[:]...)
	both := (&command.SubjectRecord{Links: links}).Append(nil)
	records := [][]byte{
		appendRecord(nil, &handleH, []byte("\x30sealed"), subject),
		appendRecord(nil, &cloakroom.Token{0x42}, []byte("\x30nobody's"), subject),
		appendRecord(nil, &aliasA, []byte("\x20\x00\x09sealed"), subject),
		appendRecord(nil, &aliasB, []byte("\x20\x00\x09nobody's"), subject),
		appendRecord(nil, &ada, both, subject),
		appendRecord(nil, &bob, both, subject),
	}
	f := newFixture(t)
	if err := f.Restore(bytes.NewReader(seal(header{records: 6, living: 2}, records...))); err != nil {
		t.Fatal(err)
	}
	for _, token := range []cloakroom.Token{ada, bob} {
		wantCode(t, f.do(command.Command{Kind: command.Erase, Subject: token, Version: one}), command.Erased)
	}
	if s := f.Stats(); s.Erased != 3 || s.Linked != 2 || s.Records != 5 {
		t.Errorf("%+v, want marks of ada, bob and the alias, and what is nobody's", s)
	}
}

// Nor must links of which each leads to the other's kind.
func TestLinksOfAnotherKindAreLeftAlone(t *testing.T) {
	crossed := append([]byte{byte(command.Alias)}, handleH[:]...)
	crossed = append(append(crossed, byte(command.Handle)), aliasA[:]...)
	f := newFixture(t)
	if err := f.Restore(bytes.NewReader(seal(header{records: 3, living: 1},
		appendRecord(nil, &handleH, []byte("\x30sealed"), subject),
		appendRecord(nil, &aliasA, []byte("\x20\x00\x09sealed"), subject),
		appendRecord(nil, &ada, (&command.SubjectRecord{Links: crossed}).Append(nil), subject),
	))); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.do(command.Command{Kind: command.Erase, Subject: ada, Version: one}), command.Erased)
	if s := f.Stats(); s.Erased != 1 || s.Linked != 2 || s.Records != 3 {
		t.Errorf("%+v, want the mark of ada and what does not fit", s)
	}
}

// seal makes a stream with a valid checksum.
func seal(h header, records ...[]byte) []byte {
	out := h.append(nil)
	for _, r := range records {
		out = append(out, r...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

func TestWriteToReportsTheWritersError(t *testing.T) {
	f := newFixture(t)
	f.do(put(one, field(name, "ada")))
	v, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	broken := errors.New("disk full")
	if _, err := v.WriteTo(failingWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("WriteTo = %v, want the writer's error", err)
	}
	if err := f.Restore(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("Restore = %v, want the reader's error", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Restoring many records, and snapshots of a state that goes on changing.
func TestSnapshotStaysWhileTheStateGoesOn(t *testing.T) {
	r := seeded(t)
	m := newMachine(t)
	fill(t, m, 30_000, r)
	want := streamOf(t, m)
	v, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, m, 30_000, r)
	eraseSome(t, m, want)
	var got bytes.Buffer
	if _, err := v.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("a view changed with the state")
	}
	parked := m.Stats().Parked
	v.Release()
	if s := m.Stats(); parked == 0 || s.Parked != 0 {
		t.Errorf("parked slots: %d before, %d after the release, want some and none", parked, s.Parked)
	}
	now := streamOf(t, m)
	other := newMachine(t)
	if err := other.Restore(bytes.NewReader(now)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(streamOf(t, other), now) || other.Hash() != m.Hash() {
		t.Error("a restored machine differs")
	}
	if a, b := m.Stats(), other.Stats(); a.Subjects != b.Subjects || a.Erased != b.Erased || a.Records != b.Records {
		t.Errorf("restored counters %+v, want %+v", b, a)
	}
}

// eraseSome erases the first 10,000 subjects of a stream.
func eraseSome(t *testing.T, m *Machine, stream []byte) {
	t.Helper()
	var commands []command.Command
	for rest := stream[headerBytes:]; len(commands) < 10_000; {
		token, n, mark, ok := decodeRecordHead((*[recordHead]byte)(rest))
		if !ok {
			t.Fatal("stream does not decode")
		}
		if mark&subject != 0 {
			commands = append(commands, command.Command{Kind: command.Erase, Subject: token})
		}
		rest = rest[recordHead+n:]
	}
	results, err := m.Apply(m.Applied()+1, command.AppendBatch(nil, commands), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		wantCode(t, result, command.Erased)
	}
}

// What Restore accepts is exactly what WriteTo writes.
func FuzzRestore(f *testing.F) {
	f.Add(sampleStream(f))
	f.Add(seal(header{}))
	f.Add(seal(header{records: 1 << 60}))
	slab := newSlab(f, 64<<20)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := New(Config{Slab: slab})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { m.drop(m.index) }()
		if len(b) >= sha256.Size { // a fuzzer finds no checksums
			sum := sha256.Sum256(b[:len(b)-sha256.Size])
			b = append(bytes.Clone(b[:len(b)-sha256.Size]), sum[:]...)
		}
		if m.Restore(bytes.NewReader(b)) != nil {
			return
		}
		if got := streamOf(t, m); !bytes.Equal(got, b) {
			t.Errorf("accepted %x, writes %x", b, got)
		}
	})
}

var _ io.WriterTo = (*View)(nil)
