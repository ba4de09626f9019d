package node_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"cloakroom/node"
)

var rewriteMembers = flag.Bool("rewrite-members", false, "write the golden file of members.json anew")

func TestGoldenMembers(t *testing.T) {
	const path = "testdata/members-1.golden"
	got, err := node.SampleRoster()
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *rewriteMembers {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the format changed:\n got %s\nwant %s%v", got, want, err)
	}
	if again, err := node.ReadRoster(got); err != nil || !bytes.Equal(append(again, '\n'), want) {
		t.Errorf("read as %s, %v", again, err)
	}
}

func FuzzReadMembers(f *testing.F) {
	sample, err := node.SampleRoster()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := node.ReadRoster(data)
		if err != nil {
			return
		}
		if twice, err := node.ReadRoster(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s became %s, %v", once, twice, err)
		}
	})
}
