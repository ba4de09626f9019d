package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
)

// folders are what the nodes of a house keep on disk: their logs of the
// directory, and how often each was started.
type folders struct {
	dir string

	mu    sync.Mutex
	boots map[string]uint64
	seen  map[string]uint64 // the latest boot that opened the log
	port  map[string]string
	certs map[string]tls.Certificate // the same key in every life
}

// newFolders returns what gives each node of a house its folder.
func newFolders(t testing.TB) *folders {
	return &folders{dir: t.TempDir(), boots: map[string]uint64{}, seen: map[string]uint64{}, port: map[string]string{}, certs: map[string]tls.Certificate{}}
}

// change gives a node its folder, and one more start.
func (f *folders) change(name string, cfg *Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	returning := f.boots[name] > 0 || name != "n1"
	f.boots[name]++
	cfg.Disk = &Disk{FS: disk.OS(), Dir: filepath.Join(f.dir, name), Boot: f.boots[name], Returning: returning,
		Seen: f.seen[name],
		Opened: func(boot uint64) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen[name] = boot
			return nil
		},
		Raise: func(registered uint64) (uint64, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.boots[name] = registered + 1
			return registered + 1, nil
		}}
	if _, there := f.certs[name]; !there {
		f.certs[name] = cfg.Network.Certificate
	}
	cfg.Network.Certificate = f.certs[name]
	if addr := f.port[name]; addr != "" {
		cfg.Network.Listen = addr
	}
	cfg.SealDirectory = func(dst []byte, group, generation uint32, data []byte) ([]byte, error) {
		return seal(dst, group, generation, data), nil
	}
	cfg.OpenDirectory = unseal
}

// settle remembers where the nodes are: they come back there.
func (f *folders) settle(h *house) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range h.names() {
		f.port[name] = h.node(name).net.Addr()
	}
}

// all starts several nodes at once.
func (h *house) all(names ...string) {
	h.t.Helper()
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() { h.start(name) })
	}
	wg.Wait()
}

// named adds a principal, to see whether the directory remembers.
func (n *resident) named(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	result, err := n.ProposeDirectory(ctx, &directory.Command{PutDomain: &directory.PutDomain{Name: name}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (n *resident) remembers(name string) bool {
	_, there := n.Directory().Domain([]byte(name))
	return there
}

// A node that is alone comes back with its directory, and with empty shards.
func TestOneNodeComesBack(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 1, 2, f.change)
	f.settle(h)
	n1 := h.node("n1")
	n1.named(t, "research")
	if err := n1.deposit(t.Context(), 0, 1, "gone with the process"); err != nil {
		t.Fatal(err)
	}
	self := n1.desk.member.Load().self
	for round, how := range []func(*Cluster) error{(*Cluster).Close, (*Cluster).Kill, (*Cluster).Kill} {
		h.end("n1", how)
		n1 = h.start("n1")
		if !n1.remembers("research") || n1.desk.member.Load().self != self {
			t.Fatalf("round %d: came back as %v, remembers %v", round, n1.desk.member.Load().self, n1.remembers("research"))
		}
		info, _ := n1.Directory().Node("n1")
		if info.Life != n1.life || info.Boot != uint64(round+2) {
			t.Errorf("round %d: registered as %+v", round, info)
		}
		for i, s := range n1.Directory().Shards {
			if int(s.Generation) != round+2 || len(s.Replicas) != 1 {
				t.Errorf("round %d: shard %d is %+v", round, i, s)
			}
		}
		if got, err := n1.look(t.Context(), 0, 1); err != nil || got != "" {
			t.Errorf("round %d: reads %q, %v", round, got, err)
		}
		if err := n1.surely(t.Context(), 1, uint64(round), "new"); err != nil {
			t.Error(err)
		}
		if n1.refounded.Load() != 2 {
			t.Errorf("%d shards began anew, want 2", n1.refounded.Load())
		}
	}
}

// One of three comes back to its own log, and the shards lose nothing.
func TestOneOfThreeComesBack(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 2, f.change)
	f.settle(h)
	for i := range 2 {
		if err := h.node("n1").surely(t.Context(), cloakroom.ShardID(i), 1, "kept"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"n2", "n1"} {
		self := h.node(name).desk.member.Load().self
		h.kill(name)
		n := h.start(name)
		h.awaitTolerance(1)
		if got := n.desk.member.Load().self; got != self {
			t.Errorf("%s came back as %v, was %v", name, got, self)
		}
		for i := range 2 {
			if got, err := n.look(t.Context(), cloakroom.ShardID(i), 1); err != nil || got != "kept" {
				t.Errorf("%s reads %q, %v", name, got, err)
			}
			if g := n.Directory().Shards[i].Generation; g != 1 {
				t.Errorf("shard %d began anew, generation %d", i, g)
			}
		}
		if replicas := n.Directory().Directory.Replicas; len(replicas) != 3 {
			t.Errorf("the directory has %+v", replicas)
		}
	}
}

// All of three at once: the directory comes back, the shards begin anew.
func TestAllComeBack(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 3, f.change)
	f.settle(h)
	h.node("n2").named(t, "research")
	for round := range 2 {
		for _, name := range h.names() {
			h.kill(name)
		}
		h.all("n1", "n2", "n3")
		h.awaitTolerance(1)
		for _, name := range h.names() {
			n := h.node(name)
			if !n.remembers("research") {
				t.Errorf("round %d: %s forgot", round, name)
			}
			if err := n.surely(t.Context(), 2, uint64(round), "new"); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		for i, s := range h.node("n1").Directory().Shards {
			if int(s.Generation) != round+2 {
				t.Errorf("round %d: shard %d is of generation %d", round, i, s.Generation)
			}
		}
	}
}

// While one of the voters may still live, a shard does not begin anew.
func TestNoShardBeginsAnewWhileAVoterMayLive(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	h.kill("n1")
	h.kill("n2")
	h.patience = 30 * time.Second
	back := make(chan *resident, 1) // not started: no shard answers
	n1, err := h.open("n1")
	if err != nil {
		t.Fatal(err)
	}
	back <- n1
	h.mu.Lock()
	h.nodes["n1"] = <-back
	h.mu.Unlock()
	h.await("n3 sees n1", func() (bool, string) {
		info, _ := h.node("n3").Directory().Node("n1")
		return info.Life == n1.life, info.Life
	})
	ticks := n1.ticked.Load() + 3
	h.await("three ticks", func() (bool, string) { return n1.ticked.Load() >= ticks, "" })
	if g := h.node("n3").Directory().Shards[0]; g.Generation != 1 {
		t.Errorf("it began anew: %+v", g)
	}
}

// A folder that was put back from a copy counts a start that was counted
// before. Its log has forgotten what it promised, so it is not used.
func TestARolledBackFolderIsNotUsed(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	h.kill("n2")
	copied := h.copyFolder(f, "n2")
	h.start("n2")
	h.awaitTolerance(1)
	before := h.node("n2").desk.member.Load().self
	h.node("n2").named(t, "research")
	h.kill("n2")
	h.putBack(f, "n2", copied)
	n2 := h.start("n2")
	h.awaitTolerance(1)
	if got := n2.desk.member.Load().self; got == before {
		t.Error("it came back with the log of the copy")
	}
	if !n2.remembers("research") {
		t.Error("it does not know what was decided since")
	}
	info, _ := n2.Directory().Node("n2")
	if info.Boot != f.boots["n2"] || info.Life != n2.life {
		t.Errorf("registered %+v, the folder counts %d", info, f.boots["n2"])
	}
}

// A log that was put back from a copy, under a node that knows better.
func TestARolledBackLogIsSetAside(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	h.kill("n2")
	copied := h.copyFolder(f, "n2")
	h.start("n2")
	h.awaitTolerance(1)
	before := h.node("n2").desk.member.Load().self
	h.kill("n2")
	boot, seen := f.boots["n2"], f.seen["n2"]
	h.putBack(f, "n2", copied)
	f.boots["n2"], f.seen["n2"] = boot, seen
	n2 := h.start("n2")
	h.awaitTolerance(1)
	if got := n2.desk.member.Load().self; got == before {
		t.Error("it came back with the log of the copy")
	}
}

// kept is a copy of a folder and of its count.
type kept struct {
	boot, seen uint64
	files      map[string][]byte
}

func (h *house) copyFolder(f *folders, name string) kept {
	k := kept{boot: f.boots[name], seen: f.seen[name], files: map[string][]byte{}}
	h.walk(filepath.Join(f.dir, name), func(path string) {
		data, err := disk.OS().ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		k.files[path] = data
	})
	return k
}

func (h *house) putBack(f *folders, name string, k kept) {
	fs := disk.OS()
	if err := fs.RemoveAll(filepath.Join(f.dir, name)); err != nil {
		h.t.Fatal(err)
	}
	for path, data := range k.files {
		if err := errors.Join(fs.MkdirAll(filepath.Dir(path)), disk.Replace(fs, path, data)); err != nil {
			h.t.Fatal(err)
		}
	}
	f.boots[name], f.seen[name] = k.boot, k.seen
}

// walk visits every file below a folder.
func (h *house) walk(dir string, visit func(path string)) {
	entries, err := disk.OS().ReadDir(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, entry := range entries {
		if path := filepath.Join(dir, entry.Name()); entry.IsDir() {
			h.walk(path, visit)
		} else {
			visit(path)
		}
	}
}

// A damaged log takes its identity with it: the node joins with a new one.
func TestADamagedLogIsSetAside(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 3, 1, f.change)
	f.settle(h)
	before := h.node("n3").desk.member.Load().self
	h.kill("n3")
	damaged := 0
	h.walk(filepath.Join(f.dir, "n3"), func(path string) {
		data, err := disk.OS().ReadFile(path)
		const at = 300 // in the first entries
		if err == nil && strings.HasSuffix(path, ".seg") && len(data) > at {
			data[at] ^= 1
			damaged++
			if err := disk.Replace(disk.OS(), path, data); err != nil {
				t.Fatal(err)
			}
		}
	})
	if damaged == 0 {
		t.Fatal("nothing to damage")
	}
	n3 := h.start("n3")
	h.awaitTolerance(1)
	if got := n3.desk.member.Load().self; got == before {
		t.Error("it came back with a damaged log")
	}
}

// What is on disk of the directory is sealed.
func TestTheDirectoryIsSealedOnDisk(t *testing.T) {
	f := newFolders(t)
	h := newHouse(t, 1, 1, f.change)
	h.node("n1").named(t, "a-name-in-clear")
	h.node("n1").named(t, "another")
	h.kill("n1")
	files := 0
	h.walk(f.dir, func(path string) {
		files++
		data, err := disk.OS().ReadFile(path)
		if err != nil || bytes.Contains(data, []byte("a-name-in-clear")) {
			t.Errorf("%s: found in clear, or %v", path, err)
		}
	})
	if files == 0 {
		t.Error("nothing is on disk")
	}
}
