package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"cloakroom"
	"cloakroom/internal/dumptest"
	"cloakroom/securemem"
)

// The promise: a value that passes through this room leaves nothing behind on
// the heap or on a stack. A child checks, seals, opens and masks values that
// hold a marker; the parent dumps it and looks for the marker.

// childMode tells the test binary, run again, to be the child.
const childMode = "CLOAKROOM_RECORD_CHILD"

// inverted is the marker with every bit inverted, since the test binary's own
// constants are in the child's memory as well.
var inverted = func() (b [24]byte) {
	for i := range b {
		b[i] = ^byte('A' + (i*7+3)%26)
	}
	return b
}()

func TestNoValueInADump(t *testing.T) {
	if mode := os.Getenv(childMode); mode != "" {
		beDumped(t, mode == "leak")
		return
	}
	switch mem, err := securemem.Open(securemem.Config{Limit: 1 << 20}); {
	case err != nil:
		t.Fatal(err)
	case testing.Short():
		t.Skip("dumps a process twice")
	case !securemem.ErasureOn():
		t.Skip("stacks are wiped only in builds with GOEXPERIMENT=runtimesecret")
	case mem.Status().Backend != securemem.BackendSecretmem:
		t.Skipf("backend %s does not withstand root; secretmem does", mem.Status().Backend)
	default:
		mem.Close()
	}
	var marker []byte
	for _, c := range inverted {
		marker = append(marker, ^c)
	}
	for _, mode := range []string{"clean", "leak"} {
		t.Run(mode, func(t *testing.T) {
			patterns := new(dumptest.Patterns)
			patterns.Add(patterns.Class("value", 8), marker)
			dumptest.AddForms(patterns, "value", marker)
			found := dumptest.DumpChild(t, "record", "TestNoValueInADump", childMode+"="+mode, func(from io.Reader) *dumptest.Patterns {
				awaitReady(t, from)
				return patterns
			})
			t.Logf("searched %d MiB: %v; registers: %v", found.MemoryBytes>>20, found.Memory, found.Registers)
			if got, want := len(found.Memory) > 0, mode == "leak"; got != want {
				t.Errorf("value found: %v, want %v", got, want)
			}
		})
	}
}

// awaitReady reads what the child prints until it can be dumped.
func awaitReady(t *testing.T, from io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(from)
	for lines.Scan() && lines.Text() != "ready" {
		t.Log(lines.Text())
	}
}

// leaked is where the child of the counter-test leaves a value.
var leaked []byte

func beDumped(t *testing.T, leak bool) {
	room, _ := newTestRoom(t, false)
	// Values and what they open to stay in guarded memory to the end: the large
	// pad, which short values do not need.
	guarded := <-room.pads.large
	defer func() { room.pads.large <- guarded }()
	rec := make([]byte, 0, 4096)
	var err error
	securemem.Do(func() {
		mem := guarded.Bytes()
		for range 200 {
			err = errors.Join(err, passThrough(room, rec, mem))
		}
		if leak {
			leaked = append(make([]byte, 0, 64), mem[:len(inverted)]...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if leak && len(leaked) == 0 {
		t.Error("nothing was leaked")
	}
}

// passThrough puts values with the marker into mem and through every call.
func passThrough(room *Room, rec, mem []byte) error {
	for i, c := range inverted {
		mem[i] = ^c
	}
	marker := mem[:len(inverted)]
	at := mem[64:64:1024]
	values := [...][]byte{
		Text:   marker,
		Email:  append(append(at, marker...), "@example.org"...),
		Phone:  nil,
		Date:   nil,
		JSON:   append(append(append(at[256:256:512], `{"`...), marker...), `":1,"x":"y"}`...),
		Sealed: marker,
	}
	for typ, value := range values {
		if value == nil {
			continue
		}
		if err := Check(Type(typ), value, 0); err != nil {
			return fmt.Errorf("check %v: %w", Type(typ), err)
		}
		_ = Check(Date, value, 0)
		rec, err := room.Seal(rec, cloakroom.Token{}, 2, 0, 0, false, value)
		if err != nil {
			return err
		}
		opened, _, err := room.Open(mem[2048:2048:4096], cloakroom.Token{}, 2, rec)
		if err != nil {
			return err
		}
		room.Handle(value, marker)
		if _, err := Mask(mem[4096:4096:8192], Type(typ), opened); err != nil {
			return err
		}
	}
	return nil
}
