package node_test

import (
	"errors"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/node"
)

// A node that is not ready any more gives no keys: its memory may be gone.
func TestADeadNodeGivesNoKeys(t *testing.T) {
	first := open(t, nil)
	if err := first.node.Kill(); err != nil {
		t.Fatal(err)
	}
	cfg := node.DevConfig([]byte(allToken))
	cfg.KeepDumpable, cfg.Name, cfg.Beside = true, "n2", []*node.Node{first.node}
	n, err := node.New(t.Context(), cfg)
	if err == nil {
		n.Close()
		t.Fatal("joined a cluster that is gone")
	}
	if !errors.Is(err, cloakroom.ErrUnavailable) || !strings.Contains(err.Error(), "take over the keys") {
		t.Errorf("got %v", err)
	}
}
