package state

import (
	"bytes"
	"slices"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Whatever bytes a log holds, replicas stay alike: one that applied everything
// and one that was restored in between answer the same and write the same
// stream, and each link has its one record.
func FuzzApply(f *testing.F) {
	linked, b := cloakroom.Token{0xc0}, bind(two, handle(cloakroom.Token{0x43}, "x"), alias(aliasB, 3, "y"))
	for _, commands := range [][]command.Command{
		{b, put(one), {Kind: command.Erase, Subject: ada}},
		{{Kind: command.Time, Value: 1 << 41}, {Kind: command.Expire, Subject: ada, Expiry: 1_900_000_000}},
		{{Kind: command.Erase, Subject: aliasA}, bind(two, handle(handleH, "x"))},
		{{Kind: command.Erase, Subject: linked}, bind(two, handle(handleH, "x"))},
	} {
		for i := range commands {
			commands[i].SchemaEpoch = 4 // that of the sample
		}
		f.Add(command.AppendBatch(nil, commands))
	}
	start := sampleStream(f)
	slab := newSlab(f, 64<<20)
	f.Fuzz(func(t *testing.T, batch []byte) {
		var machines [2]*Machine
		for i := range machines {
			m, err := New(Config{Slab: slab})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { m.drop(m.index) }()
			if err := m.Restore(bytes.NewReader(start)); err != nil {
				t.Fatal(err)
			}
			machines[i] = m
		}
		first, _ := machines[0].Apply(100, batch, nil)
		middle := streamOf(t, machines[0])
		if err := machines[1].Restore(bytes.NewReader(middle)); err != nil {
			t.Fatal(err)
		}
		checkLinks(t, middle)
		var results [2][]command.Result
		for i, m := range machines {
			results[i], _ = m.Apply(101, batch, nil)
		}
		if !slices.Equal(results[0], results[1]) || len(results[0]) != len(first) {
			t.Errorf("answers %v, of the restored one %v", results[0], results[1])
		}
		if end := streamOf(t, machines[0]); !bytes.Equal(end, streamOf(t, machines[1])) {
			t.Error("the restored machine went another way")
		} else {
			checkLinks(t, end)
		}
	})
}

// checkLinks finds for each link of a stream its record, of its kind, and for
// each such record its one link.
func checkLinks(t *testing.T, stream []byte) {
	t.Helper()
	listed, kept := map[cloakroom.Token]command.LinkKind{}, map[cloakroom.Token]command.LinkKind{}
	for rest := stream[headerBytes : len(stream)-32]; len(rest) > 0; {
		token, n, mark, ok := decodeRecordHead((*[recordHead]byte)(rest))
		if !ok {
			t.Fatal("stream does not decode")
		}
		record := rest[recordHead : recordHead+n]
		rest = rest[recordHead+n:]
		if mark&subject == 0 {
			continue
		}
		if command.IsHandle(record) {
			kept[token] = command.Handle
			continue
		}
		s := decodeSubject(record)
		if s.Alias {
			kept[token] = command.Alias
		}
		for i := range s.Links.Len() {
			kind, link := s.Links.At(i)
			if _, twice := listed[link]; twice {
				t.Error("two subjects list one link")
			}
			listed[link] = kind
		}
	}
	if len(listed) != len(kept) {
		t.Errorf("%d links of %d records", len(listed), len(kept))
	}
	for token, kind := range listed {
		if kept[token] != kind {
			t.Errorf("a link of kind %d leads to a record of kind %d", kind, kept[token])
		}
	}
}
