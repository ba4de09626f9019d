package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/node/folder"
)

// Stage is how far the life of a node has come.
type Stage uint32

// The stages, in the order in which they come; a node skips what it need not
// go through.
const (
	opening  Stage = iota // nothing answers yet
	Joining               // it asks to be taken in
	Sealed                // its port is open; it has no keys
	Pending               // the same, and a custodian must admit it first
	Starting              // it has its keys, and brings up the directory and the shards
	Ready                 // it answers
	Removed               // the cluster has removed it
)

// String returns the stage's name, as status and logs have it.
func (s Stage) String() string {
	switch s {
	case Joining:
		return "joining"
	case Sealed:
		return "sealed"
	case Pending:
		return "pending"
	case Ready:
		return "ready"
	case Removed:
		return "removed"
	default:
		return "starting"
	}
}

// Err returns why a node of this stage answers no request, nil if it does.
func (s Stage) Err() error {
	switch s {
	case Ready:
		return nil
	case Sealed, Pending:
		return cloakroom.ErrSealed
	case Removed:
		return errGone
	default:
		return cloakroom.ErrStarting
	}
}

// progress is how far a node has come, and what ends its way there.
type progress struct {
	stage atomic.Uint32

	ctx     context.Context // of everything a node does to get ready; over with Close and Kill
	cancel  context.CancelFunc
	running sync.WaitGroup // Run, and what goes on beside it until the node ends
	gone    chan struct{}  // see Gone
}

// Stage returns how far the node has come. What a stage needs is there before
// it is shown: the port and its cluster from Sealed on, keys and audit from
// Starting on.
func (n *Node) Stage() Stage { return Stage(n.stage.Load()) }

func (n *Node) setStage(s Stage) {
	if Stage(n.stage.Swap(uint32(s))) != s {
		n.cfg.Logger.Info("stage of the node", "stage", s.String())
	}
}

// Open takes the node's folder, if it has one, and its memory, and opens the
// audit log. Nothing is asked of others, and no key is needed: from now on
// [Node.Serve] and the operator's side door may answer, and say how far it is.
func Open(_ context.Context, cfg Config) (*Node, error) {
	cfg, err := cfg.fill()
	if err != nil {
		return nil, fmt.Errorf("configure node: %w", err)
	}
	n := &Node{cfg: cfg, now: cfg.Now, random: cfg.Random, served: make(chan error, 1), keySource: newKeySource()}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.gone = make(chan struct{})
	n.requests = newRequestMetrics()
	n.registry = n.newRegistry()
	for _, room := range []func() error{n.openFolder, n.openMemory, n.openAudit} {
		if err := room(); err != nil {
			return nil, errors.Join(fmt.Errorf("start node: %w", err), n.Close())
		}
	}
	return n, nil
}

// openFolder takes the folder and counts the start. The count is on disk
// before the cluster port opens: whoever meets the node can tell its starts
// apart.
func (n *Node) openFolder() (err error) {
	if n.cfg.Folder == "" {
		return nil
	}
	n.folder, err = folder.Open(n.cfg.FS, n.cfg.Folder)
	if errors.Is(err, folder.ErrNone) && len(n.cfg.JoinToken) > 0 {
		n.folder, err = folder.Create(n.cfg.FS, n.cfg.Folder, folder.Node{Name: n.cfg.Name})
	}
	if err != nil {
		return err
	}
	if name := n.folder.Node().Name; name != n.cfg.Name {
		return fmt.Errorf("the folder %s is of node %q, and node.name is %q: name it so, or give this node another folder",
			n.cfg.Folder, name, n.cfg.Name)
	}
	n.id = directory.ID(n.folder.Node().Cluster)
	return n.folder.Update(func(node *folder.Node) { node.Boot++ })
}

// Run brings an opened node up and returns when it is ready: when it has its
// keys, sees the directory and every shard answers. A node with a folder may
// wait for a custodian on the way, as long as it takes. It can be called once;
// an error is final, and only Close helps.
func (n *Node) Run(ctx context.Context) error {
	n.running.Add(1)
	defer n.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	way := n.throwAway
	if n.folder != nil {
		way = n.fromFolder
	}
	for _, step := range append(way(), n.startShards, n.finish) {
		if err := step(ctx); err != nil {
			return fmt.Errorf("start node: %w", err)
		}
	}
	return nil
}

// throwAway lists what brings up a node that has nothing on disk.
func (n *Node) throwAway() []func(context.Context) error {
	return []func(context.Context) error{n.drawCluster, n.openKeys, n.openCluster, n.enter, n.fillDirectory}
}

// fromFolder lists what brings up a node from its folder: it founds a cluster,
// joins one, or comes back to it.
func (n *Node) fromFolder() []func(context.Context) error {
	if _, err := n.folder.Founding(); err == nil {
		return []func(context.Context) error{n.foundKeys, n.openCluster, n.enter, n.found}
	}
	return []func(context.Context) error{n.join, n.openCluster, n.awaitKeys, n.enter, n.resume}
}

// drawCluster takes the id of the cluster from the nodes beside this one, or
// draws a new one.
func (n *Node) drawCluster(context.Context) error {
	if len(n.cfg.Beside) > 0 {
		n.id = n.cfg.Beside[0].cluster.Directory().ClusterID
		return nil
	}
	if _, err := io.ReadFull(n.random, n.id[:]); err != nil {
		return fmt.Errorf("draw cluster id: %w", err)
	}
	return nil
}

// enter brings up the directory; from then on operators can be answered.
func (n *Node) enter(ctx context.Context) error {
	n.setStage(Starting)
	err := n.cluster.Enter(ctx)
	if errors.Is(err, cluster.ErrRemoved) {
		n.setStage(Removed)
	}
	return err
}

// resume holds what this node has against the directory it came back to.
func (n *Node) resume(context.Context) error {
	if err := n.checkKeys(n.cluster.Directory()); err != nil {
		return err
	}
	if err := n.checkSettings(n.cluster.Directory()); err != nil {
		return err
	}
	if err := n.keepKeyring(n.cluster.Directory()); err != nil {
		return err
	}
	return n.warm()
}

// checkSettings holds the node's file to the settings of the cluster.
func (n *Node) checkSettings(view *directory.View) error {
	return n.compareSettings(len(view.Shards), &view.Settings)
}

func (n *Node) compareSettings(shards int, all *directory.Settings) error {
	var faults []error
	disagree := func(name string, here, all any, said bool) {
		if said && here != all {
			faults = append(faults, fmt.Errorf("%s is %v in the node's file and %v in the cluster, for good: take it out of the file, or say %v",
				name, here, all, all))
		}
	}
	disagree("cluster.shards", n.cfg.Shards, shards, n.cfg.Shards != 0)
	disagree("cluster.replication", n.cfg.Replication, all.Replication, n.cfg.Replication != 0)
	disagree("cluster.dead_after", n.cfg.DeadAfter, all.DeadAfter(), n.cfg.DeadAfter != 0)
	disagree("cluster.handover_window", n.cfg.HandoverWindow, all.Handover(), n.cfg.HandoverWindow != 0)
	return errors.Join(faults...)
}
