package audit_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"cloakroom/node/audit"
)

var update = flag.Bool("update", false, "write the golden file anew")

func sample() audit.Entry {
	return audit.Entry{
		Request:   []byte("b4f0c0de5eed0001"),
		Trace:     [16]byte{0x4b, 0xf9, 0x2f, 0x35, 15: 0x36},
		Principal: "renderer",
		Action:    "resolve",
		Fields:    []string{"display_name", "email"},
		Form:      "masked",
		Purpose:   "support",
		Asked:     100, Found: 98, Missing: 2,
		Outcome: "ok",
	}
}

// clock is a time that moves only when told.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func inMemory(t testing.TB, c *clock) *audit.Log {
	t.Helper()
	log, err := audit.New(audit.Config{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestLinesAreTheGoldenOnes(t *testing.T) {
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("", 3600))}
	log := inMemory(t, c)
	entries := []audit.Entry{
		sample(),
		{Request: []byte("b4f0c0de5eed0002"), Action: "erase", Principal: "office", Asked: 1, Outcome: "intent"},
		{Request: []byte("b4f0c0de5eed0003"), Outcome: "unauthenticated"},
		{Request: []byte("b4f0c0de5eed0005"), Principal: "operator", Action: "drain-node", Target: "n2", Outcome: "intent"},
		{Request: []byte("b4f0c0de5eed0004"), Principal: "q\"uo\\te\n\x7fé\xff", Action: "read", Outcome: "denied"},
	}
	for i := range entries {
		if err := log.Write(t.Context(), &entries[i]); err != nil {
			t.Fatal(err)
		}
		c.at = c.at.Add(999_999 * time.Microsecond)
	}
	got := log.Recent(nil)
	const golden = "testdata/lines-v1.ndjson"
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// FuzzLine holds every line to be one line of JSON that says what was written.
func FuzzLine(f *testing.F) {
	f.Add("renderer", "display_name", "support", []byte("id"), int64(1700000000), 3)
	f.Fuzz(func(t *testing.T, principal, field, purpose string, request []byte, unix int64, count int) {
		unix %= 1 << 37 // four-digit years
		c := &clock{time.Unix(max(unix, -unix), 123456789)}
		log := inMemory(t, c)
		entry := audit.Entry{Request: request, Principal: principal, Fields: []string{field, field}, Purpose: purpose, Found: count}
		if err := log.Write(t.Context(), &entry); err != nil {
			t.Fatal(err)
		}
		line := log.Recent(nil)
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		var got struct {
			Time                        time.Time
			Principal, Purpose, Request string
			Fields                      []string
			Found                       int
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if !got.Time.Equal(c.at.Truncate(time.Microsecond)) || got.Found != count {
			t.Errorf("got %+v from %q", got, line)
		}
		for want, got := range map[string]string{principal: got.Principal, purpose: got.Purpose, field: got.Fields[1], string(request): got.Request} {
			if utf8.ValidString(want) && got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestRingKeepsTheLatestWholeLines(t *testing.T) {
	c := &clock{time.Unix(1700000000, 0)}
	log, err := audit.New(audit.Config{Now: c.now, RingBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	entry := sample()
	for n := 1; n <= 200; n++ {
		entry.Asked = n
		if err := log.Write(t.Context(), &entry); err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(log.Recent(nil), []byte("\n"))
		lines = lines[:len(lines)-1] // after the last newline
		for i, line := range lines {
			var got struct{ Asked, Seq int }
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatalf("after %d: %v in %q", n, err, line)
			}
			if want := n - len(lines) + 1 + i; got.Asked != want || got.Seq != want {
				t.Fatalf("after %d, line %d is %d, want %d", n, i, got.Asked, want)
			}
		}
		if want := min(n, 10); len(lines) < want {
			t.Fatalf("after %d only %d lines are left", n, len(lines))
		}
	}
}

func TestWriteToMemoryDoesNotAllocate(t *testing.T) {
	log := inMemory(t, &clock{time.Unix(1700000000, 0)})
	entry := sample()
	allocs := testing.AllocsPerRun(100, func() {
		if err := log.Write(t.Context(), &entry); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Write allocates %v times", allocs)
	}
}

func BenchmarkWriteMemory(b *testing.B) {
	log, err := audit.New(audit.Config{})
	if err != nil {
		b.Fatal(err)
	}
	entry, ctx := sample(), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := log.Write(ctx, &entry); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteFile(b *testing.B) {
	file, err := audit.OpenFile(b.TempDir() + "/audit.log")
	if err != nil {
		b.Fatal(err)
	}
	log, err := audit.New(audit.Config{File: file})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		entry, ctx := sample(), b.Context()
		for pb.Next() {
			if err := log.Write(ctx, &entry); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
