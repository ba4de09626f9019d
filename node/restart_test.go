package node_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
	"cloakroom/node/folder"
)

// stead is a cluster of nodes with folders in one process. They end like
// crashed ones and come back.
type stead struct {
	t    *testing.T
	made *node.Initialised

	mu      sync.Mutex
	configs map[string]node.Config
	nodes   map[string]*inmate
}

// inmate is one start of a node.
type inmate struct {
	*node.Node
	ran  chan error // what Run returned
	logs *logged
}

// newStead founds a cluster of that many nodes.
func newStead(t *testing.T, nodes int) *stead {
	t.Helper()
	cfg := initConfig(t)
	cfg.Shards, cfg.SinglePerson, cfg.Shares, cfg.Threshold = 2, true, 1, 1
	s := &stead{t: t, made: initialise(t, cfg), configs: map[string]node.Config{}, nodes: map[string]*inmate{}}
	s.configs[cfg.Name] = folderConfig(cfg)
	t.Cleanup(s.closeAll)
	first := s.configs[cfg.Name]
	first.Network = &node.Network{Listen: freePort(t)}
	s.configs[cfg.Name] = first
	s.ready(s.start(cfg.Name))
	for _, name := range []string{"n2", "n3"}[:nodes-1] {
		c := folderConfig(cfg)
		c.Name, c.Folder, c.Network = name, filepath.Join(t.TempDir(), name), &node.Network{Listen: freePort(t)}
		s.await("a join token", func() bool { // a busy machine may lose a leader
			tokens, err := s.nodes[cfg.Name].CreateJoinTokens(t.Context(), "operator", time.Hour, 1)
			if err == nil {
				c.JoinToken = []byte(tokens[0])
			}
			return err == nil
		})
		s.configs[name] = c
		s.ready(s.start(name))
	}
	s.settle()
	return s
}

// start opens a node and has it run.
func (s *stead) start(name string) *inmate {
	s.t.Helper()
	i := &inmate{ran: make(chan error, 1), logs: &logged{}}
	cfg := s.configs[name]
	cfg.Logger = slog.New(slog.NewTextHandler(i.logs, nil))
	n, err := node.Open(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	i.Node = n
	go func() { i.ran <- n.Run(context.Background()) }() // ends with the node
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[name] = i
	return i
}

// ready waits until a node answers.
func (s *stead) ready(i *inmate) {
	s.t.Helper()
	select {
	case err := <-i.ran:
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", i.Name(), err, i.logs)
		}
	case <-time.After(60 * time.Second):
		s.t.Fatalf("%s does not get ready\n%s", i.Stage(), i.logs)
	}
}

// refused waits until a node gives up.
func (s *stead) refused(i *inmate) error {
	s.t.Helper()
	select {
	case err := <-i.ran:
		if err == nil {
			s.t.Fatal("the node was let in")
		}
		return err
	case <-time.After(60 * time.Second):
		s.t.Fatalf("%s: still trying\n%s", i.Stage(), i.logs)
		return nil
	}
}

// await waits for a condition.
func (s *stead) await(what string, met func() bool) {
	s.t.Helper()
	limit := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-limit:
			for _, i := range s.nodes {
				s.t.Log(i.logs)
			}
			s.t.Fatalf("in vain: %s", what)
		}
	}
}

// settle waits until every group has a voter on as many nodes as it should.
func (s *stead) settle() {
	s.t.Helper()
	s.await("every group is settled", func() bool {
		for _, i := range s.nodes {
			h := i.Health()
			for _, g := range h.Groups {
				if !h.Ready || !g.Settled {
					return false
				}
			}
		}
		return true
	})
}

// kill ends nodes like a crash, all at once.
func (s *stead) kill(names ...string) {
	s.t.Helper()
	var wg sync.WaitGroup
	for _, name := range names {
		n := s.nodes[name].Node
		delete(s.nodes, name)
		wg.Go(func() {
			if err := n.Kill(); err != nil {
				s.t.Errorf("kill %s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

func (s *stead) closeAll() {
	for name, i := range s.nodes {
		if err := i.Close(); err != nil {
			s.t.Errorf("close %s: %v", name, err)
		}
	}
}

// unseal gives a node the one share there is.
func (s *stead) unseal(i *inmate) {
	s.t.Helper()
	s.await("it is sealed", func() bool { return i.Stage() == node.Sealed })
	if status, err := i.Unseal(s.t.Context(), []byte(text(s.made.Shares[0]))); err != nil || status.Sealed {
		s.t.Fatalf("unseal: %+v, %v", status, err)
	}
}

// knows checks that a node knows the principals that init made.
func (s *stead) knows(i *inmate) {
	s.t.Helper()
	for _, token := range s.made.Tokens {
		if c, err := i.Authenticate([]byte(text(token.Token))); err != nil || c.Name() != token.Principal {
			s.t.Errorf("%s: token of %s: %v, %v", i.Name(), token.Principal, c, err)
		}
	}
}

// After a stop of the whole cluster one share on one node brings back all.
func TestAllNodesComeBack(t *testing.T) {
	s := newStead(t, 3)
	s.kill("n1", "n2", "n3")
	for _, name := range []string{"n3", "n2", "n1"} {
		s.start(name)
	}
	for _, i := range s.nodes {
		s.await("it is sealed", func() bool { return i.Stage() == node.Sealed })
		if _, err := i.Authenticate([]byte(text(s.made.Tokens[0].Token))); !errors.Is(err, cloakroom.ErrSealed) {
			t.Errorf("a sealed node answers a caller: %v", err)
		}
	}
	s.unseal(s.nodes["n2"])
	for _, i := range s.nodes {
		s.ready(i)
	}
	s.settle()
	for _, i := range s.nodes {
		s.knows(i)
	}
	refounded := 0
	for _, i := range s.nodes {
		refounded += strings.Count(i.AuditLines(), `"action":"shard-refound"`)
	}
	if refounded != 2 {
		t.Errorf("%d entries of shards that began anew, want 2", refounded)
	}
}

// One of three comes back without anybody's help, as the replica it was.
func TestANodeComesBackByItself(t *testing.T) {
	s := newStead(t, 3)
	before := s.nodes["n1"].ViewNow().Directory.Replicas
	for _, name := range []string{"n2", "n1"} {
		s.kill(name)
		s.ready(s.start(name))
		s.settle()
		s.knows(s.nodes[name])
	}
	after := s.nodes["n1"].ViewNow()
	if len(after.Directory.Replicas) != len(before) {
		t.Errorf("the directory has %+v, had %+v", after.Directory.Replicas, before)
	}
	for _, shard := range after.Shards {
		if shard.Generation != 1 {
			t.Errorf("shard %d began anew", shard.ID)
		}
	}
}

// A folder that was put back from a copy, or copied, is found out.
func TestAnOldCopyOfAFolderGetsNoKeys(t *testing.T) {
	s := newStead(t, 3)
	s.kill("n2")
	folder := s.configs["n2"].Folder
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	s.ready(s.start("n2"))
	s.settle()
	s.kill("n2")
	if err := errors.Join(os.RemoveAll(folder), os.Rename(old, folder)); err != nil {
		t.Fatal(err)
	}
	if err := s.refused(s.start("n2")); !strings.Contains(err.Error(), "put back from a backup") {
		t.Errorf("got %v", err)
	}
}

// Two processes on one folder would be one node twice.
func TestAFolderIsForOneProcess(t *testing.T) {
	s := newStead(t, 1)
	if _, err := node.Open(t.Context(), s.configs["n1"]); !errors.Is(err, folder.ErrTaken) {
		t.Errorf("got %v", err)
	}
	s.knows(s.nodes["n1"])
}

// What the node's file says of the whole cluster must be so.
func TestANodeFileMustAgreeWithTheCluster(t *testing.T) {
	s := newStead(t, 1)
	s.kill("n1")
	cfg := s.configs["n1"]
	cfg.Shards = 8
	s.configs["n1"] = cfg
	i := s.start("n1")
	s.unseal(i)
	if err := s.refused(i); !strings.Contains(err.Error(), "cluster.shards is 8 in the node's file and 2 in the cluster") {
		t.Errorf("got %v", err)
	}
	cfg.Shards, cfg.Name = 0, "n7"
	s.kill("n1")
	if _, err := node.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `is of node "n1"`) {
		t.Errorf("under another name: %v", err)
	}
}

// A node that is removed while it runs hears of it, answers nobody any more and
// is told so when it comes back.
func TestARemovedNodeEnds(t *testing.T) {
	s := newStead(t, 3)
	i := s.nodes["n3"]
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := s.nodes["n1"].RemoveDead(ctx, "n3"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-i.Gone():
	case <-ctx.Done():
		t.Fatalf("it goes on: %s\n%s", i.Stage(), i.logs)
	}
	_, err := i.Authenticate([]byte(text(s.made.Tokens[0].Token)))
	if i.Stage() != node.Removed || !errors.Is(err, cloakroom.ErrStarting) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("stage %s, answers %v", i.Stage(), err)
	}
	if _, err := i.Ready(false); err == nil {
		t.Error("it says that it is ready")
	}
	s.kill("n3")
	if err := s.refused(s.start("n3")); !strings.Contains(err.Error(), "removed from the cluster") {
		t.Errorf("when it comes back: %v", err)
	}
}
