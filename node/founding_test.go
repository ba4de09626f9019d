package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
	"cloakroom/securemem"
)

// folderConfig runs the node that initConfig made.
func folderConfig(cfg node.InitConfig) node.Config {
	return node.Config{
		Name: cfg.Name, Folder: cfg.Folder, Network: &node.Network{Listen: "127.0.0.1:0"},
		Memory: securemem.Config{Limit: 64 << 20}, KeepDumpable: true, LogBudget: 2 << 20,
	}
}

func openNode(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestTheFirstStartFoundsTheCluster(t *testing.T) {
	cfg := initConfig(t)
	cfg.Shards = 2
	made := initialise(t, cfg)
	n := openNode(t, folderConfig(cfg))
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, token := range made.Tokens {
		caller, err := n.Authenticate([]byte(text(token.Token)))
		if err != nil || caller.Name() != token.Principal {
			t.Errorf("token of %s: %v, %v", token.Principal, caller, err)
		}
	}
	if _, err := n.Authenticate([]byte("another")); !errors.Is(err, cloakroom.ErrUnauthenticated) {
		t.Errorf("another token: %v", err)
	}
	view := n.ViewNow()
	if view.ClusterID.String() != made.Cluster || len(view.Shards) != 2 || !view.Settings.SinglePerson {
		t.Errorf("cluster %s with %d shards, settings %+v", view.ClusterID, len(view.Shards), view.Settings)
	}
	if view.KeyringVersion != 1 || view.Recovery == nil || view.Recovery.Threshold != 2 || len(view.Recovery.Shares) != 3 {
		t.Errorf("keyring version %d, recovery %+v", view.KeyringVersion, view.Recovery)
	}
	if _, err := os.Stat(filepath.Join(cfg.Folder, "founding.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("founding.json after founding: %v", err)
	}
	if status, err := n.Unseal(t.Context(), []byte(text(made.Shares[0]))); err != nil || status.Sealed {
		t.Errorf("unseal of a node that has its keys: %+v, %v", status, err)
	}
}

func TestUnseal(t *testing.T) {
	cfg := initConfig(t)
	cfg.Shards = 2
	made := initialise(t, cfg)
	first := openNode(t, folderConfig(cfg))
	if err := first.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	n := openNode(t, folderConfig(cfg))
	n.ShowSealed()
	if p := n.UnsealProgress(); !p.Sealed || p.Given != 0 || p.Needed != 2 || p.LapsesSec != 0 {
		t.Errorf("before any share: %+v", p)
	}
	offer := func(share string, given int, reason string) {
		t.Helper()
		status, err := n.Unseal(t.Context(), []byte(share))
		if status.Given != given || !status.Sealed {
			t.Errorf("got %+v, want %d shares", status, given)
		}
		if (err != nil) != (reason != "") || err != nil && (!errors.Is(err, cloakroom.ErrShare) || !strings.Contains(err.Error(), reason)) {
			t.Errorf("got %v, want %q", err, reason)
		}
		if err != nil && strings.Contains(err.Error(), share[20:]) {
			t.Error("the error repeats the share")
		}
	}
	foreign := initialise(t, initConfig(t))
	offer(text(foreign.Shares[0]), 0, "another cluster")
	offer("cloakroom-share-1.nothing of the kind", 0, "copy all of it")
	offer(text(made.Shares[2]), 1, "")
	offer(text(made.Shares[2]), 1, "here already")
	status, err := n.Unseal(t.Context(), []byte(text(made.Shares[0])+"\n"))
	if err != nil || status.Sealed {
		t.Errorf("second share: %+v, %v", status, err)
	}
	if version, err := n.Brought(); version != 1 || err != nil {
		t.Errorf("brought keys of version %d, %v", version, err)
	}
}

// A start that did not come to its end is begun anew, with keys of its own.
func TestFoundingBeginsAnewAfterACrash(t *testing.T) {
	cfg := initConfig(t)
	cfg.Shards = 2
	initialise(t, cfg)
	founding, err := os.ReadFile(filepath.Join(cfg.Folder, "founding.json"))
	if err != nil {
		t.Fatal(err)
	}
	first := openNode(t, folderConfig(cfg))
	if err := first.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(cfg.Folder, "keyring.age"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Folder, "founding.json"), founding, 0o600); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, folderConfig(cfg))
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(cfg.Folder, "keyring.age"))
	if err != nil || string(before) == string(after) {
		t.Errorf("the keyring file is the old one: %v", err)
	}
	aside, err := filepath.Glob(filepath.Join(cfg.Folder, "keyring.age.aside-*"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside is %v, %v", aside, err)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(before) {
		t.Errorf("the old keyring file is lost: %v", err)
	}
	if logs, err := filepath.Glob(filepath.Join(cfg.Folder, "directory.aside-*")); err != nil || len(logs) != 1 {
		t.Errorf("the old log is lost: %v, %v", logs, err)
	}
}

func TestFoundingRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*node.Config, string)
		want   string
	}{
		"a file that disagrees":         {func(cfg *node.Config, _ string) { cfg.Shards = 3 }, "cluster.shards is 3 in the node's file and 2 in the cluster"},
		"another time to count as dead": {func(cfg *node.Config, _ string) { cfg.DeadAfter = time.Minute + 1 }, "cluster.dead_after is 1m0.000000001s in the node's file and 1m0s in the cluster"},
		"another window":                {func(cfg *node.Config, _ string) { cfg.HandoverWindow = time.Second }, "cluster.handover_window is 1s in the node's file and 10m0s in the cluster"},
		"a damaged founding.json": {func(_ *node.Config, dir string) {
			os.WriteFile(filepath.Join(dir, "founding.json"), []byte("{}"), 0o600)
		}, "founding.json"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := initConfig(t)
			cfg.Shards = 2
			initialise(t, cfg)
			run := folderConfig(cfg)
			c.change(&run, cfg.Folder)
			if err := openNode(t, run).Run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(cfg.Folder, "keyring.age")); err == nil {
				t.Error("a keyring file was written")
			}
		})
	}
}

// A keyring file that was damaged, or is of another cluster, is told to the
// custodians, and what they bring is not used up by it.
func TestUnsealNamesADamagedKeyring(t *testing.T) {
	cfg, other := initConfig(t), initConfig(t)
	cfg.Shards, other.Shards = 2, 2
	made := initialise(t, cfg)
	foreign := initialise(t, other)
	found(t, cfg)
	found(t, other)
	path := filepath.Join(cfg.Folder, "keyring.age")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	strange, err := os.ReadFile(filepath.Join(other.Folder, "keyring.age"))
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, good...)
	bad[len(bad)-5] ^= 1
	for name, c := range map[string]struct {
		file   []byte
		shares []*securemem.Secret
	}{
		"header": {good[1:], made.Shares[:1]}, "body": {bad, made.Shares[:2]}, "another cluster": {strange, foreign.Shares[:2]},
	} {
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		n := openNode(t, folderConfig(cfg))
		n.ShowSealed()
		for _, share := range c.shares {
			_, err = n.Unseal(t.Context(), []byte(text(share)))
		}
		if !errors.Is(err, cloakroom.ErrState) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.Brought(); err == nil {
			t.Errorf("%s: keys were brought", name)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// found has a node founded and stopped.
func found(t *testing.T, cfg node.InitConfig) {
	t.Helper()
	n := openNode(t, folderConfig(cfg))
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// After a stop of the whole cluster the directory is there again once enough
// custodians have come: tokens, schema, recovery recipient.
func TestTheClusterComesBackWithItsShares(t *testing.T) {
	cfg := initConfig(t)
	cfg.Shards = 2
	made := initialise(t, cfg)
	found(t, cfg)

	n := openNode(t, folderConfig(cfg))
	ran := make(chan error, 1)
	go func() { ran <- n.Run(t.Context()) }() // ends when it is ready, or with the test
	await(t, "it is sealed", func() bool { return n.Stage() == node.Sealed })
	if _, err := n.Authenticate([]byte(text(made.Tokens[0].Token))); !errors.Is(err, cloakroom.ErrSealed) {
		t.Errorf("a token while it is sealed: %v", err)
	}
	for _, share := range made.Shares[:2] {
		if _, err := n.Unseal(t.Context(), []byte(text(share))); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	for _, token := range made.Tokens {
		if caller, err := n.Authenticate([]byte(text(token.Token))); err != nil || caller.Name() != token.Principal {
			t.Errorf("token of %s: %v, %v", token.Principal, caller, err)
		}
	}
	view := n.ViewNow()
	if view.Recovery == nil || len(view.Recovery.Shares) != 3 || view.KeyringVersion != 1 || len(view.Schema.Fields) != 6 {
		t.Errorf("recovery %+v, keyring %d, %d fields", view.Recovery, view.KeyringVersion, len(view.Schema.Fields))
	}
	if n.UnsealProgress().Sealed {
		t.Error("it says that it is sealed")
	}
}

// The keyring file is written anew where it is missing, as on a node that was
// given its keys by another.
func TestAMissingKeyringFileIsWritten(t *testing.T) {
	cfg := initConfig(t)
	cfg.Shards = 2
	made := initialise(t, cfg)
	n := openNode(t, folderConfig(cfg))
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Folder, "keyring.age")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.KeepKeyring(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the newest was written once more: %v", err)
	}
	if err := os.WriteFile(path, before[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.KeepKeyring(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := openNode(t, folderConfig(cfg))
	again.ShowSealed()
	for _, share := range made.Shares[1:] {
		if _, err := again.Unseal(t.Context(), []byte(text(share))); err != nil {
			t.Fatal(err)
		}
	}
	if version, err := again.Brought(); err != nil || version != 1 {
		t.Errorf("version %d, %v", version, err)
	}
}
