package folder

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file")

func TestGolden(t *testing.T) {
	node := testNode()
	path := filepath.Join("testdata", "node-1.golden")
	if *update {
		if err := os.WriteFile(path, encoded(t, &node), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, &node); !bytes.Equal(got, want) {
		t.Errorf("node.json = %s, want %s", got, want)
	}
}

func FuzzNode(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Node
		if n.decode(data) != nil {
			return
		}
		first, err := n.encode()
		if err != nil {
			t.Skip("grew too large")
		}
		var again Node
		if err := again.decode(first); err != nil {
			t.Fatalf("its own words are refused: %v", err)
		}
		if second, err := again.encode(); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s became %s, %v", first, second, err)
		}
	})
}
