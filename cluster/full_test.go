package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
)

// narrow is a file system whose free space is what a test says.
type narrow struct {
	disk.FS
	free atomic.Uint64
}

func (n *narrow) Free(string) (uint64, error) { return n.free.Load(), nil }

// With little room left the directory takes erasures in, and nothing else.
func TestANearlyFullDiskTakesErasuresOnly(t *testing.T) {
	f := newFolders(t)
	fsys := &narrow{FS: disk.OS()}
	fsys.free.Store(1 << 40)
	h := newHouse(t, 1, 2, func(name string, cfg *Config) {
		f.change(name, cfg)
		cfg.Disk.FS = fsys
	})
	n1 := h.node("n1")
	n1.named(t, "before")
	fsys.free.Store(100 << 20)
	h.await("the disk is full", func() (bool, string) {
		return n1.desk.member.Load().replica.Full(), "it has room"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := n1.ProposeDirectory(ctx, &directory.Command{PutDomain: &directory.PutDomain{Name: "during"}})
	if !errors.Is(err, cloakroom.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("a change: got %v, want unavailable at once", err)
	}
	if err := n1.RecordErasure(ctx, directory.Erasure{Subject: cloakroom.Token{1}, Shard: 1, Generation: 1, Index: 7}); err != nil {
		t.Errorf("an erasure: %v", err)
	}
	if err := n1.deposit(ctx, 0, 1, "in memory"); err != nil {
		t.Errorf("a deposit: %v", err)
	}
	fsys.free.Store(1 << 40)
	h.await("the disk has room", func() (bool, string) {
		return !n1.desk.member.Load().replica.Full(), "it is full"
	})
	n1.named(t, "after")
	if n1.remembers("during") {
		t.Error("what was refused was done")
	}
}
