package state

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// pair is a subject with two records that always carry the same number.
type pair struct{ subject, left, right cloakroom.Token }

func (p pair) put(n byte) command.Command {
	record := bytes.Repeat([]byte{n}, 20)
	c := command.Command{Kind: command.Put, Subject: p.subject, Version: cloakroom.Version{n},
		Fields: []command.Field{{Token: p.left, Record: record}, {Token: p.right, Record: record}}}
	c.SortFields()
	return c
}

// TestReadsBesideWrites runs readers, a writer, snapshots and sweeps together.
// A reader must never see half of a command, nor a record that is not the
// token's. Run it with -race.
func TestReadsBesideWrites(t *testing.T) {
	r := seeded(t)
	m := newMachine(t)
	pairs := make([]pair, 500)
	for i := range pairs {
		pairs[i] = pair{randomToken(r), randomToken(r), randomToken(r)}
	}
	var done atomic.Bool
	var group sync.WaitGroup
	for range 2 {
		seed := r.Uint64()
		group.Go(func() { readPairs(t, m, pairs, rand.New(rand.NewPCG(seed, 0)), &done) })
	}
	group.Go(func() { snapshotAndSweep(t, m, &done) })
	for index := uint64(1); index <= 400; index++ {
		var commands []command.Command
		for range 50 {
			commands = append(commands, pairs[r.IntN(len(pairs))].put(byte(r.IntN(250)+1)))
		}
		for range 100 { // others, so that the index grows beside the readers
			commands = append(commands, pair{randomToken(r), randomToken(r), randomToken(r)}.put(1))
		}
		if _, err := m.Apply(index, command.AppendBatch(nil, commands), nil); err != nil {
			t.Error(err)
			break
		}
	}
	done.Store(true)
	group.Wait()
}

func readPairs(t *testing.T, m *Machine, pairs []pair, r *rand.Rand, done *atomic.Bool) {
	var dst command.Records
	for !done.Load() {
		p := pairs[r.IntN(len(pairs))]
		dst.Reset()
		m.Read([]cloakroom.Token{p.left, p.subject, p.right}, &dst)
		left, subject, right := dst.At(0), dst.At(1), dst.At(2)
		if left == nil && subject == nil && right == nil {
			continue // not written yet
		}
		s, err := command.DecodeSubject(subject)
		if err != nil || len(left) != 20 || !bytes.Equal(left, right) || s.Version[0] != left[0] {
			t.Errorf("torn read: %x, %x, %x, %v", left, subject, right, err)
			return
		}
	}
}

func snapshotAndSweep(t *testing.T, m *Machine, done *atomic.Bool) {
	for !done.Load() {
		v, err := m.Snapshot()
		if err != nil {
			t.Error(err)
			return
		}
		var out bytes.Buffer
		if _, err := v.WriteTo(&out); err != nil {
			t.Error(err)
		}
		v.Release()
		m.Expired(cloakroom.Token{}, 1<<31, 10, nil)
		m.Stats()
	}
}
