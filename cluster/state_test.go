package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/state"
	"cloakroom/securemem"
)

// openReal starts a cluster whose shards keep real state.
func openReal(t testing.TB, limit int64, change ...func(*Config)) (*rig, []*state.Machine) {
	t.Helper()
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	machines := make([]*state.Machine, cloakroom.MaxShards)
	r := open(t, func(c *Config, _ *rig) {
		c.LogBudget = 1 << 20
		c.MapLog = func(n int) ([]byte, error) { return memory.MapPlain("log", n) }
		c.UnmapLog = memory.UnmapPlain
		c.Machine = func(id cloakroom.ShardID) (Machine, error) {
			m, err := state.New(state.Config{Slab: memory.Arena().NewSlab(fmt.Sprintf("shard %d", id))})
			machines[id] = m
			return stateMachine{m, func() {}}, err
		}
		c.RecordMemory = memory.Arena().Free
		for _, f := range change {
			f(c)
		}
	})
	return r, machines
}

func subject(serial uint64, value string) command.Command {
	c := put(serial, 0)
	c.Fields[0].Record = []byte(value)
	return c
}

func TestDepositReadEraseThroughTheWholeWay(t *testing.T) {
	r, _ := openReal(t, 64<<20)
	c := subject(1, "sealed elsewhere")
	field := c.Fields[0].Token
	results, index, err := r.Propose(t.Context(), 0, []command.Command{c})
	if err != nil || results[0].Code != command.Created {
		t.Fatalf("put: %+v, %v", results, err)
	}
	var got command.Records
	if err := r.Read(t.Context(), 0, cloakroom.Linearizable, index, []cloakroom.Token{field, {9}}, &got); err != nil {
		t.Fatal(err)
	}
	if string(got.At(0)) != "sealed elsewhere" || got.At(1) != nil || got.Time != uint64(r.clock.Now().UnixMilli()) {
		t.Fatalf("read: %q, %q at %d", got.At(0), got.At(1), got.Time)
	}
	erase := command.Command{Kind: command.Erase, SchemaEpoch: 1, Subject: c.Subject, Version: cloakroom.Version{1},
		Fields: []command.Field{{Token: field}}}
	if results, _, err = r.Propose(t.Context(), 0, []command.Command{erase}); err != nil || results[0].Code != command.Erased {
		t.Fatalf("erase: %+v, %v", results, err)
	}
	got.Reset()
	if err := r.Read(t.Context(), 0, cloakroom.Lease, cloakroom.Index{}, []cloakroom.Token{field}, &got); err != nil || got.At(0) != nil {
		t.Fatalf("read after erasure: %q, %v", got.At(0), err)
	}
}

// Many times the log's budget goes through; a view of the state survives it,
// writes the same bytes twice and makes an equal machine.
func TestStateOutlivesItsLog(t *testing.T) {
	r, machines := openReal(t, 64<<20)
	serial := uint64(0)
	for range 40 {
		cmds := make([]command.Command, 100)
		for i := range cmds {
			serial++
			cmds[i] = subject(serial, string(make([]byte, 900)))
		}
		if _, _, err := r.Propose(t.Context(), 1, cmds); err != nil {
			t.Fatal(err)
		}
	}
	s := r.Status().Shards[1]
	if s.Compactions == 0 || s.LogBytes > s.LogBudget || s.LogMapped > 2*s.LogBudget {
		t.Fatalf("log after 4 MB: %+v", s)
	}
	view, err := stateMachine{Machine: machines[1]}.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	var first, second bytes.Buffer
	if _, err := view.WriteTo(&first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Propose(t.Context(), 1, []command.Command{subject(serial+1, "later")}); err != nil {
		t.Fatal(err)
	}
	if n, err := view.WriteTo(&second); err != nil || n != int64(first.Len()) || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("second writing: %d bytes, %v; first %d", n, err, first.Len())
	}
	_, fresh := openReal(t, 64<<20)
	copied := stateMachine{Machine: fresh[0]}
	if err := copied.Restore(&first); err != nil {
		t.Fatal(err)
	}
	var got command.Records
	copied.Machine.Read([]cloakroom.Token{subject(7, "").Fields[0].Token, subject(serial+1, "").Fields[0].Token}, &got)
	if len(got.At(0)) != 900 || got.At(1) != nil {
		t.Fatalf("restored: %d bytes and %q", len(got.At(0)), got.At(1))
	}
}

// Deposits stop before the arena is full, erasures go on, and no shard parks.
func TestFullArenaParksNobody(t *testing.T) {
	r, _ := openReal(t, 8<<20)
	var err error
	serial := uint64(0)
	for err == nil && serial < 100_000 {
		cmds := make([]command.Command, 50)
		for i := range cmds {
			serial++
			cmds[i] = subject(serial, string(make([]byte, 500)))
		}
		_, _, err = r.Propose(t.Context(), 0, cmds)
	}
	if !errors.Is(err, cloakroom.ErrMemoryFull) {
		t.Fatalf("after %d deposits: got %v, want memory full", serial, err)
	}
	var erase []command.Command
	for i := range uint64(100) {
		c := put(i+1, 0)
		c.Kind, c.Fields[0].Record = command.Erase, nil
		binary.BigEndian.PutUint64(c.Version[:], 1<<40+i)
		erase = append(erase, c)
	}
	results, _, err := r.Propose(t.Context(), 0, erase)
	if err != nil || results[99].Code != command.Erased {
		t.Fatalf("erase: %v", err)
	}
	if s := r.Status(); !s.Ready {
		t.Fatalf("status: %+v", s)
	}
}
