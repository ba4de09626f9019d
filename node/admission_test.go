package node_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
)

// foundEntrance founds a cluster of several people, in which a node without a
// life of a second ago needs a custodian.
func foundEntrance(t *testing.T) *entrance {
	t.Helper()
	cfg := initConfig(t)
	cfg.SinglePerson, cfg.Shards = false, 2
	cfg.Settings.HandoverSec = 1
	initialise(t, cfg)
	e := &entrance{t: t, logs: &logged{}}
	run := folderConfig(cfg)
	run.Network.Listen = freePort(t)
	run.Logger = slog.New(slog.NewTextHandler(e.logs, nil))
	e.first = &house{t: t, node: openNode(t, run)}
	if err := e.first.node.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// admit has a custodian admit a node once it waits for it.
func (e *entrance) admit(c *newcomer) {
	e.t.Helper()
	c.staged(node.Pending)
	if err := e.first.node.Admit(e.t.Context(), "custodian-1", c.cfg.Name, c.node.Fingerprint()); err != nil {
		e.t.Fatal(err)
	}
	c.in()
}

// staged waits until the node has come that far.
func (c *newcomer) staged(want node.Stage) {
	c.t.Helper()
	await(c.t, "stage "+want.String(), func() bool {
		select {
		case err := <-c.ran:
			c.t.Fatalf("gave up: %v\n%s", err, c.logs)
		default:
		}
		return c.node.Stage() == want
	})
}

func TestANodeNeedsItsCustodian(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := foundEntrance(t)
	c := e.start(e.newcomerConfig("n2", e.token()))
	c.staged(node.Pending)
	if log := c.logs.String(); !strings.Contains(log, c.node.Fingerprint()) {
		t.Error("the node does not show its fingerprint:\n", log)
	}
	admit := func(name, fingerprint string) error {
		return e.first.node.Admit(t.Context(), "custodian-1", name, fingerprint)
	}
	for name, test := range map[string]struct {
		err  error
		want error
	}{
		"another fingerprint": {admit("n2", e.first.node.Fingerprint()), cloakroom.ErrConflict},
		"no fingerprint":      {admit("n2", "n2"), cloakroom.ErrMalformed},
		"another node":        {admit("n3", c.node.Fingerprint()), cloakroom.ErrNotFound},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
	c = e.restart(c, nil) // it waits on in its next life
	c.staged(node.Pending)
	if caller, err := c.node.Authenticate([]byte("token")); !errors.Is(err, cloakroom.ErrSealed) {
		t.Error("a pending node knows", caller, err)
	}
	e.admit(c)
	audit := e.first.node.AuditLines()
	if n := strings.Count(audit, `"principal":"n2","action":"keys-give","asked":0,"found":0,"missing":0,"outcome":"unadmitted"`); n != 2 {
		t.Errorf("%d refusals in the audit log, want one for each life:\n%s", n, audit)
	}
	if n := strings.Count(audit, `"action":"keys-give","asked":0,"found":0,"missing":0,"outcome":"ok"`); n != 1 {
		t.Errorf("%d hand-overs in the audit log", n)
	}
}

// Too long after its end a node needs a person again, and the folder of one
// that has moved on gets nothing at all.
func TestANodeThatWasAwayTooLong(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := foundEntrance(t)
	third := e.start(e.newcomerConfig("n3", e.token()))
	e.admit(third)
	c := e.start(e.newcomerConfig("n2", e.token()))
	e.admit(c)
	e.settled(3)
	c.end()
	copied := filepath.Join(t.TempDir(), "copied")
	if err := os.CopyFS(copied, os.DirFS(c.cfg.Folder)); err != nil {
		t.Fatal(err)
	}
	over := time.Now().Add(3500 * time.Millisecond)
	await(t, "the window is over", func() bool { return time.Now().After(over) })

	c = e.restart(c, nil)
	e.admit(c)
	e.settled(3)

	elsewhere := e.restart(c, func(cfg *node.Config) { cfg.Network = &node.Network{Listen: freePort(t)} })
	if err := elsewhere.out(); !strings.Contains(err.Error(), "is registered at "+c.cfg.Network.Listen) {
		t.Error("at another address:", err)
	}
	elsewhere.end()
	old := e.restart(c, func(cfg *node.Config) { cfg.Folder = copied })
	if err := old.out(); !strings.Contains(err.Error(), "it is a copy, or was put back from a backup") {
		t.Error("a copied folder:", err)
	}
	old.end()
	c = e.restart(c, nil) // no harm was done to the right one
	e.admit(c)
}

// A node that was removed is told so, and joins anew with a token, in its old
// folder.
func TestANodeComesBackAfterItsRemoval(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := foundEntrance(t)
	e.admit(e.start(e.newcomerConfig("n3", e.token())))
	c := e.start(e.newcomerConfig("n2", e.token()))
	e.admit(c)
	e.settled(3)
	c.end()
	if err := e.first.node.RemoveDead(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	c = e.restart(c, nil)
	if err := c.out(); !strings.Contains(err.Error(), "removed from the cluster") || c.node.Stage() != node.Removed {
		t.Errorf("stage %s, %v", c.node.Stage(), err)
	}
	token := e.token()
	c = e.restart(c, func(cfg *node.Config) { cfg.JoinToken = token })
	e.admit(c)
}
