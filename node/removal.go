package node

import (
	"context"
	"time"

	"cloakroom"
)

// goneText is said to who still asks a node that was removed.
const goneText = "this node was removed from the cluster: ask another one"

// Gone is closed when a node that was up finds that the cluster has removed it.
// It answers nobody any more, and only Close helps.
func (n *Node) Gone() <-chan struct{} { return n.gone }

// watchMembership ends the service of a node that is removed from its cluster,
// at once when it hears of it: its replicas are no part of any group any more,
// so whatever it answered would soon be old.
func (n *Node) watchMembership(ctx context.Context) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for !n.cluster.Removed() {
		select {
		case <-n.cluster.News():
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
	n.ready.Store(false)
	n.setStage(Removed)
	n.cfg.Logger.Error("this node was removed from the cluster, and ends", "node", n.cfg.Name)
	if n.server != nil {
		n.server.Farewell()
	}
	close(n.gone)
}

// errGone is what a removed node answers.
var errGone = cloakroom.Because(cloakroom.ErrStarting, goneText)
