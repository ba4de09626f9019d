package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
)

// decide has the directory carry out a command that may be given twice.
func (h *house) decide(by string, cmd *directory.Command) {
	h.t.Helper()
	h.await("the directory decides", func() (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := h.node(by).step(ctx, cmd)
		return err == nil || errors.Is(err, cloakroom.ErrNotFound), fmt.Sprint(err)
	})
}

// Two voters of the directory need each other: the one that stayed must let
// the other's log speak before it can register the life that brings it. (The
// shards of two nodes tolerate the loss of none: nobody asks for them here.)
func TestOneOfTwoComesBack(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 2, 1, f.change)
	f.settle(h)
	for _, name := range []string{"n2", "n1"} {
		self := h.node(name).desk.member.Load().self
		h.kill(name)
		n, err := h.open(name)
		if err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.nodes[name] = n
		h.mu.Unlock()
		if got := n.desk.member.Load().self; got != self {
			t.Errorf("%s came back as %v, was %v", name, got, self)
		}
		n.named(t, "by-"+name)
	}
}

// A folder without its log is a registration without its folder: another
// replica takes the place of the one that is gone.
func TestAReplicaWhoseFolderIsGoneIsReplaced(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	before := h.node("n2").desk.member.Load().self
	h.kill("n2")
	if err := disk.OS().RemoveAll(filepath.Join(f.dir, "n2")); err != nil {
		t.Fatal(err)
	}
	n2 := h.start("n2")
	h.awaitTolerance(1)
	if n2.desk.member.Load().self == before {
		t.Fatal("an empty log under an old name")
	}
	for _, r := range n2.Directory().Directory.Replicas {
		if r.ID == before.ID {
			t.Errorf("still there: %+v", r)
		}
	}
}

// While its node was away a replica was made to leave. It has lost its place,
// and its folder is set aside.
func TestAReplicaThatLeftMeanwhileIsReplaced(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	before := h.node("n3").desk.member.Load().self
	h.kill("n3")
	h.decide("n1", &directory.Command{SetReplica: &directory.SetReplica{
		Group: directory.DirectoryGroup, ID: before.ID, State: directory.Leaving}})
	n3 := h.start("n3")
	h.awaitTolerance(1)
	if n3.desk.member.Load().self == before {
		t.Error("it came back as the replica that had left")
	}
	h.await("its folder is set aside", func() (bool, string) {
		left := 0
		entries, err := disk.OS().ReadDir(filepath.Join(f.dir, "n3"))
		for _, entry := range entries {
			if entry.Name() == before.ID {
				left++
			}
		}
		return err == nil && left == 0, "still there"
	})
}

// A node that was removed is told so.
func TestARemovedNodeIsToldSo(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	h.kill("n3")
	h.decide("n1", &directory.Command{RemoveNode: &directory.RemoveNode{Name: "n3", Dead: true}})
	if n, err := h.open("n3"); !errors.Is(err, ErrRemoved) {
		t.Errorf("got %v", err)
		if err == nil {
			n.Close()
			n.memory.Close()
		}
	}
}

// A copy of a folder that runs while the node does is refused, whatever it
// counts, and does not disturb the node.
func TestARunningCopyIsRefused(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	h.kill("n2")
	copied := h.copyFolder(f, "n2")
	n2 := h.start("n2")
	h.awaitTolerance(1)
	self := n2.desk.member.Load().self
	other := newFolders(t)
	other.boots["n2"], other.seen["n2"], other.certs = copied.boot+5, copied.seen, f.certs
	for path, data := range copied.files {
		rel, err := filepath.Rel(f.dir, path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(other.dir, rel)
		if err := errors.Join(disk.OS().MkdirAll(filepath.Dir(to)), disk.Replace(disk.OS(), to, data)); err != nil {
			t.Fatal(err)
		}
	}
	change := h.change
	h.change, h.patience = other.change, 4*time.Second
	n, err := h.open("n2")
	h.change = change
	if err == nil {
		n.Close()
		n.memory.Close()
		t.Fatal("a copy came in beside the node")
	}
	if info, _ := n2.Directory().Node("n2"); info.Life != n2.life || n2.desk.member.Load().self != self {
		t.Errorf("the copy took the place: %+v", info)
	}
	n2.named(t, "research")
}
