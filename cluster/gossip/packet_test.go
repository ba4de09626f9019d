package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// What travels before memberlist's own bytes is format 1.
func TestGoldenBytes(t *testing.T) {
	const path = "testdata/packets.golden"
	life := "0102030405060708090a0b0c0d0e0f10"
	got := hex.Dump(appendPacket(appendPacket([]byte{packets}, []byte("first")), []byte("second"))) +
		Member{"node-1", life}.name() + "\n" + virtual(Member{"node-1", life}).String() + "\n"
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("got\n%swant\n%s%v", got, want, err)
	}
}

func TestNames(t *testing.T) {
	life := strings.Repeat("0a", 16)
	if m, ok := parseName("n-1.x:" + life); !ok || m != (Member{"n-1.x", life}) {
		t.Error(m, ok)
	}
	for _, bad := range []string{"", "n", ":" + life, "n:", "n:" + life[1:], "n:" + strings.ToUpper(life), "a/b:" + life, "n:x" + life} {
		if _, ok := parseName(bad); ok {
			t.Errorf("%q is a name", bad)
		}
	}
}

func FuzzPackets(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, again := bytes.NewReader(raw), []byte(nil)
		for {
			b, err := readPacket(in)
			if err != nil {
				if !errors.Is(err, errPacket) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				break
			}
			if len(b) == 0 || len(b) > maxPacket {
				t.Fatalf("a packet of %d bytes", len(b))
			}
			again = appendPacket(again, b)
		}
		if !bytes.HasPrefix(raw, again) {
			t.Error("written again it is something else")
		}
	})
}

func FuzzName(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		if m, ok := parseName(name); ok && m.name() != name {
			t.Errorf("%q comes back as %q", name, m.name())
		}
	})
}
