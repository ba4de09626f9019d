package node_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloakroom/node"
)

// After a stop of the whole cluster custodians give shares on one node, and the
// others get the keys from it: nobody has heard anybody, and the directory has
// no majority before they have them.
func TestTheWholeClusterComesBack(t *testing.T) {
	t.Parallel() // most of the time it waits
	cfg := initConfig(t)
	cfg.SinglePerson, cfg.Shards = false, 2
	cfg.Settings.HandoverSec = 60
	made := initialise(t, cfg)
	e := &entrance{t: t, logs: &logged{}}
	run := folderConfig(cfg)
	run.Network.Listen = freePort(t)
	run.Logger = slog.New(slog.NewTextHandler(e.logs, nil))
	first := e.start(run)
	first.in()
	e.first = &house{t: t, node: first.node}
	second := e.start(e.newcomerConfig("n2", e.token()))
	e.admit(second)
	third := e.start(e.newcomerConfig("n3", e.token()))
	e.admit(third)
	e.settled(3)
	all := []*newcomer{first, second, third}
	for _, c := range all {
		await(t, "everybody remembers everybody", func() bool {
			data, err := os.ReadFile(filepath.Join(c.cfg.Folder, "members.json"))
			return err == nil && strings.Count(string(data), `"life"`) == 3
		})
	}
	for _, c := range all {
		c.end()
	}
	for i, c := range all {
		all[i] = e.restart(c, nil)
	}
	for _, c := range all {
		c.staged(node.Sealed)
	}
	for _, share := range made.Shares[:2] {
		if _, err := all[1].node.Unseal(t.Context(), []byte(text(share))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range all {
		c.in()
	}
	e.first.node = all[0].node
	e.settled(3)
}

// What a node remembers of the others counts only if a node with the keys wrote
// it.
func TestWhatWasWrittenByOthersIsForgotten(t *testing.T) {
	t.Parallel() // most of the time it waits
	cfg := initConfig(t)
	cfg.Shards = 1
	made := initialise(t, cfg)
	e := &entrance{t: t, logs: &logged{}}
	run := folderConfig(cfg)
	run.Network.Listen = freePort(t)
	c := e.start(run)
	c.in()
	path := filepath.Join(cfg.Folder, "members.json")
	await(t, "members.json is there", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	c.end()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(data), `"handover_s":0`, `"handover_s":999999`, 1)
	if forged == string(data) {
		t.Fatalf("nothing forged in %s", data)
	}
	for _, test := range []struct {
		content string
		noticed bool
	}{{string(data), false}, {forged, true}} {
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		c = e.restart(c, nil)
		c.staged(node.Sealed)
		for _, share := range made.Shares[:2] {
			if _, err := c.node.Unseal(t.Context(), []byte(text(share))); err != nil {
				t.Fatal(err)
			}
		}
		c.in()
		if got := strings.Contains(c.logs.String(), "members.json was not written by a node of this cluster"); got != test.noticed {
			t.Errorf("noticed: %v, want %v", got, test.noticed)
		}
		c.end()
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = e.restart(c, nil)
	c.staged(node.Sealed)
	if log := c.logs.String(); !strings.Contains(log, "members.json: not what this version writes") {
		t.Error("garbage was not noticed:\n", log)
	}
}
