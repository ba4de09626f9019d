package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/wire"
)

// prover makes proofs as a node with that key.
func prover(key string) func(node, life string) [32]byte {
	return func(node, life string) [32]byte { return sha256.Sum256([]byte(key + "\x00" + node + "\x00" + life)) }
}

// A node with a certificate and without the keys registers no life: it would be
// heard then, and could ask for the keys as one that ended a moment ago.
func TestOnlyANodeWithTheKeysIsRegistered(t *testing.T) {
	h := newHouse(t, 1, 1, func(name string, cfg *Config) {
		key := "the cluster's"
		if name == "thief" {
			key = "made up"
		}
		if name != "bare" {
			cfg.Network.Gate.Prove = prover(key)
		}
		cfg.Network.Boot = 1
	})
	for _, name := range []string{"thief", "bare"} {
		if _, err := h.open(name); !errors.Is(err, cloakroom.ErrConflict) || !strings.Contains(err.Error(), "once it has the keys") {
			t.Errorf("%s: %v", name, err)
		}
		if _, there := h.nodes["n1"].Directory().Node(name); there {
			t.Errorf("%s is registered", name)
		}
	}
	h.start("n2")
	one, _ := h.nodes["n1"].Directory().Node("n1")
	two, _ := h.nodes["n1"].Directory().Node("n2")
	if one.Boot != 1 || two.Boot != 1 || one.Key == two.Key || one.Key == [32]byte{} || two.Key == [32]byte{} {
		t.Errorf("registered %+v and %+v", one, two)
	}
	if silent, heard := h.nodes["n1"].SilentFor("n2", two.Life); !heard || silent > 10*time.Second {
		t.Error("n2 was not heard for", silent, heard)
	}
	if _, heard := h.nodes["n1"].SilentFor("n2", one.Life); heard {
		t.Error("a life of another node was heard")
	}
}

// The same name with another TLS key is another node, whatever signed it.
func TestANodeIsKnownByItsKey(t *testing.T) {
	h := newHouse(t, 2, 1, func(_ string, cfg *Config) { cfg.Network.Boot = 1 })
	n1 := h.nodes["n1"]
	h.end("n2", (*Cluster).Kill)
	h.change = func(_ string, cfg *Config) { cfg.Network.Boot = 2 } // h.ca.Node draws a new key
	h.patience = 5 * time.Second
	if n, err := h.open("n2"); err == nil {
		n.Kill()
		t.Fatal("let in with another key")
	}
	if refused := n1.net.Stats().Refused["another TLS key than the registered one"]; refused == 0 {
		t.Error("refused for other reasons:", n1.net.Stats().Refused)
	}
}

// What is not answered at the gate is refused, also to members.
func TestAGateThatIsNotThere(t *testing.T) {
	h := newHouse(t, 2, 1, nil)
	n1, n2 := h.nodes["n1"], h.nodes["n2"]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, method := range []wire.Method{wire.Keys, wire.Renew} {
		if _, err := n1.net.Call(ctx, "n2", uint8(method), nil); !errors.Is(err, cloakroom.ErrDenied) {
			t.Errorf("%s: %v", method, err)
		}
		if _, _, err := n1.AskAt(ctx, n2.Addr(), method, nil); !errors.Is(err, cloakroom.ErrDenied) {
			t.Errorf("%s as a guest: %v", method, err)
		}
	}
	if _, _, err := (Knock{Addr: n2.Addr(), Pin: peer.KeyOf(h.ca.Root), Now: time.Now}).Ask(ctx, nil); err == nil {
		t.Error("a stranger was answered")
	}
	if who, err := n1.Reach(ctx, n2.Addr()); err != nil || who.Node != "n2" || who.Life != n2.Life() {
		t.Errorf("reached %+v, %v", who, err)
	}
}
