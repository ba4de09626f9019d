package wal

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write golden files and seeds anew")

// golden compares got with the file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	text := []byte(hex.Dump(bytes.TrimRight(got, "\x00")))
	if *update {
		must(t, os.WriteFile(file, text, 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(text, want) {
		t.Errorf("%s: got\n%swant\n%s", name, text, want)
	}
}

// seed writes a seed of a fuzz target, with -update.
func seed(t *testing.T, target, name string, data []byte) {
	t.Helper()
	if !*update {
		return
	}
	dir := filepath.Join("testdata", "fuzz", target)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644))
}

// The files of format 1 are what they were.
func TestFormat1(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	s.mark.halt() // it is written once, below, and not when it pleases
	must(t, s.SetUint64([]byte(keyTerm), 2))
	must(t, s.SetUint64([]byte(keyVoteTerm), 2))
	must(t, s.Set([]byte(keyCandidate), []byte("addr-2")))
	must(t, s.StoreLogs(entries(1, 2, 1)))
	must(t, s.StoreLogs(entries(3, 3, 2)))
	must(t, s.mark.flush())
	must(t, snap(t, s, 2, 1))
	must(t, s.Close())
	fuzzed := map[string]string{labelName: "FuzzLabel", termName: "FuzzSlot", markName: "FuzzSlot", ".seg": "FuzzSegment", ".snap": "FuzzSnapshotMeta"}
	for _, name := range fsys.Files() {
		data := fsys.Peek(name)
		base := path.Base(name)
		target := fuzzed[base]
		if target == "" {
			target = fuzzed[path.Ext(base)]
		}
		if target == "FuzzSlot" { // two places, of which the first tells all
			data = data[:slotBytes]
		}
		golden(t, base, data)
		seed(t, target, base, bytes.TrimRight(data, "\x00"))
	}
}

func FuzzLabel(f *testing.F) {
	f.Add(encodeLabel(label{Format: format, Identity: self, Boot: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLabel(b)
		if err != nil {
			return
		}
		if got := encodeLabel(l); !bytes.Equal(got, b) {
			t.Errorf("re-encoded %q, want %q", got, b)
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add(encodeSlot(7, []byte("value")))
	f.Fuzz(func(t *testing.T, b []byte) {
		place := make([]byte, slotBytes)
		copy(place, b)
		serial, value, err := decodeSlot(place)
		if err != nil {
			return
		}
		if got := encodeSlot(serial, value); !bytes.Equal(got, place) {
			t.Errorf("re-encoded %x, want %x", got, place)
		}
	})
}

// A segment is a header and records; both read as they are written.
func FuzzSegment(f *testing.F) {
	g := &segment{number: 1, base: 5, keep: true}
	f.Add(appendRecord(g.header(self), g.sum[:], entry(5, 2), 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeSegment(b, self)
		if err != nil {
			g = &segment{number: 1, base: 1}
			if len(b) < segmentHeader {
				return
			}
		} else if got := g.header(self); !bytes.Equal(got, b[:segmentHeader]) {
			t.Errorf("header re-encoded %x, want %x", got, b[:segmentHeader])
		}
		records, used := scan(b, g)
		got := b[:segmentHeader:segmentHeader]
		for _, r := range records {
			got = appendRecord(got, g.sum[:], &r.Log, r.first)
		}
		if !bytes.Equal(got, b[:used]) {
			t.Errorf("records re-encoded %x, want %x", got[segmentHeader:], b[segmentHeader:used])
		}
		later(b, g, used, g.base-1+uint64(len(records)))
	})
}

func FuzzSnapshotMeta(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		meta, length, err := decodeMeta(bytes.NewReader(b), self)
		if err != nil {
			return
		}
		if length > int64(len(b)) {
			t.Errorf("%d bytes of %d", length, len(b))
		}
		encodeMeta(meta, self) // whatever was read can be written
	})
}
