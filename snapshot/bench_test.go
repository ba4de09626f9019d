package snapshot

import (
	"bytes"
	"io"
	"testing"
)

// A state of 64 MiB, written and read in pieces of 64 KiB as the state machine
// does, into and out of memory.
const benchState = 64 << 20

func BenchmarkWrite(b *testing.B) {
	h := testHeader
	h.Payload = benchState
	piece := noise(b, chunkBytes)
	b.SetBytes(benchState)
	b.ReportAllocs()
	for b.Loop() {
		w, err := NewWriter(io.Discard, h, seal(b))
		if err != nil {
			b.Fatal(err)
		}
		for range benchState / chunkBytes {
			if _, err := w.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	file := written(b, headerFor(make([]byte, benchState)), make([]byte, benchState))
	piece := make([]byte, chunkBytes)
	b.SetBytes(benchState)
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(file), open(b))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Read(piece)
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}
