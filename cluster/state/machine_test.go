package state

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// newSlab opens unlocked record memory of its own for one test.
func newSlab(t testing.TB, limit int64) *securemem.Slab {
	t.Helper()
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
	return memory.Arena().NewSlab("test")
}

func newMachine(t testing.TB) *Machine {
	t.Helper()
	m, err := New(Config{Slab: newSlab(t, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fixture applies commands one entry at a time.
type fixture struct {
	*Machine
	t     testing.TB
	index uint64
}

func newFixture(t testing.TB) *fixture { return &fixture{Machine: newMachine(t), t: t} }

// do applies one command and returns its result.
func (f *fixture) do(c command.Command) command.Result {
	f.t.Helper()
	c.SortFields()
	return f.all(c)[0]
}

// all applies the commands as one entry.
func (f *fixture) all(c ...command.Command) []command.Result {
	f.t.Helper()
	f.index++
	results, err := f.Apply(f.index, command.AppendBatch(nil, c), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(results) != len(c) {
		f.t.Fatalf("%d results, want %d", len(results), len(c))
	}
	return results
}

// record returns what a read of one token finds.
func (f *fixture) record(token cloakroom.Token) string {
	var r command.Records
	f.Read([]cloakroom.Token{token}, &r)
	return string(r.At(0))
}

// randomToken draws a token as the token cipher would.
func randomToken(r *rand.Rand) (t cloakroom.Token) {
	binary.LittleEndian.PutUint64(t[:8], r.Uint64())
	binary.LittleEndian.PutUint64(t[8:], r.Uint64())
	return t
}

// seeded returns a generator whose seed the test prints when it fails.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %#x", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}
