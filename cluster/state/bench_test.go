package state

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// nameRecord is the length of a sealed 25-byte name without expiry: header 9,
// nonce 12, padded plaintext 32, tag 16.
const nameRecord = 69

// fill puts n subjects with one name each into m, in batches of up to 1,000,
// and returns the tokens of the names.
func fill(t testing.TB, m *Machine, n int, r *rand.Rand) []cloakroom.Token {
	t.Helper()
	names := make([]cloakroom.Token, n)
	record := make([]byte, nameRecord)
	var batch []byte
	var results []command.Result
	index := m.Applied()
	for at := 0; at < n; {
		size := min(1000, n-at)
		batch = command.BeginBatch(batch[:0])
		for range size {
			c := command.Command{Kind: command.Put, Flags: command.CreateOnly, Subject: randomToken(r)}
			names[at] = randomToken(r)
			c.Version[0] = byte(at)
			copy(record, names[at][:])
			c.Fields = []command.Field{{Token: names[at], Record: record}}
			batch = command.AppendItem(batch, &c)
			at++
		}
		command.EndBatch(batch, size)
		index++
		var err error
		if results, err = m.Apply(index, batch, results[:0]); err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			if result.Code != command.Created {
				t.Fatalf("put answered %s, want created", result.Code)
			}
		}
	}
	return names
}

// BenchmarkRead100 reads 100 random names of a million subjects, from one
// machine and spread over 16.
func BenchmarkRead100(b *testing.B) {
	for _, shards := range []int{1, 16} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			machines := make([]*Machine, shards)
			names := make([][]cloakroom.Token, shards)
			for i := range machines {
				machines[i] = newMachine(b)
				names[i] = fill(b, machines[i], 1_000_000/shards, r)
			}
			const pages = 4096 // distinct requests, far more than the caches hold
			requests := make([][][]cloakroom.Token, pages)
			for i := range requests {
				requests[i] = make([][]cloakroom.Token, shards)
				for range 100 {
					s := r.IntN(shards)
					requests[i][s] = append(requests[i][s], names[s][r.IntN(len(names[s]))])
				}
			}
			var dst command.Records
			shares := make([]Share, shards)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				dst.Reset()
				spans := dst.Extend(100)
				for s, tokens := range requests[i%pages] {
					shares[s] = Share{machines[s], tokens, spans[:len(tokens)]}
					spans = spans[len(tokens):]
				}
				ReadShares(shares, &dst, 0)
			}
			if len(dst.Buf) != 100*nameRecord {
				b.Fatalf("read %d bytes, want %d", len(dst.Buf), 100*nameRecord)
			}
		})
	}
}

// BenchmarkApply creates subjects with one name, 1,000 to an entry; the figure
// is for one subject.
func BenchmarkApply(b *testing.B) {
	m := newMachine(b)
	r := rand.New(rand.NewPCG(1, 2))
	fill(b, m, 200_000, r)
	b.ReportAllocs()
	b.ResetTimer()
	fill(b, m, b.N, r)
}

// BenchmarkBind creates subjects with one name, a handle and an alias; the
// figure is for one subject.
func BenchmarkBind(b *testing.B) {
	m := newMachine(b)
	r := rand.New(rand.NewPCG(1, 2))
	fill(b, m, 200_000, r)
	b.ReportAllocs()
	b.ResetTimer()
	fillLinked(b, m, b.N, r)
}

// BenchmarkSnapshot writes 300,000 subjects out. The view itself, which is
// what writers wait for, is a metric of its own.
func BenchmarkSnapshot(b *testing.B) {
	m := newMachine(b)
	fill(b, m, 300_000, rand.New(rand.NewPCG(1, 2)))
	var taking time.Duration
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		v, err := m.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		taking = max(taking, time.Since(start))
		n, err := v.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
		v.Release()
	}
	b.ReportMetric(float64(taking.Microseconds()), "max-µs-to-take")
}
