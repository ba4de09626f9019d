package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/node/audit"
	"cloakroom/node/folder"
)

// disk is where the directory's log of a node with a folder is kept.
func (n *Node) disk() *cluster.Disk {
	return &cluster.Disk{
		FS: n.folder.FS(), Dir: n.folder.DirectoryDir(), Boot: n.folder.Node().Boot,
		Raise: n.countOn, Returning: n.founds == nil,
		Seen: n.folder.Node().DirectoryBoot, Opened: n.noteOpened,
	}
}

// noteOpened notes in node.json that the log of the directory was opened.
func (n *Node) noteOpened(boot uint64) error {
	return n.folder.Update(func(node *folder.Node) { node.DirectoryBoot = boot })
}

// countOn has the folder, which was found to be an old copy, count its starts
// on from one that the cluster knows of.
func (n *Node) countOn(registered uint64) (boot uint64, err error) {
	err = n.folder.Update(func(node *folder.Node) {
		node.Boot = max(node.Boot, registered) + 1
		boot = node.Boot
	})
	return boot, err
}

// sealDirectory and openDirectory stand between the directory's commands and
// its log, in memory and on disk.
func (n *Node) sealDirectory(dst []byte, group, generation uint32, command []byte) ([]byte, error) {
	return n.keys.SealDirectory(dst, group, generation, command)
}

func (n *Node) openDirectory(dst []byte, group, generation uint32, sealed []byte) ([]byte, error) {
	return n.keys.OpenDirectory(dst, group, generation, sealed)
}

// refoundWait bounds the audit entry of a shard that began anew: it has begun
// whether there is one or not.
const refoundWait = 2 * time.Second

// recordRefounding writes into the audit log that a shard lost all it had.
func (n *Node) recordRefounding(shard cloakroom.ShardID, generation uint32) {
	ctx, cancel := context.WithTimeout(n.ctx, refoundWait)
	defer cancel()
	var id [16]byte
	_, _ = io.ReadFull(n.random, id[:]) // an entry without an id is better than none
	entry := audit.Entry{Request: hex.AppendEncode(nil, id[:]), Principal: n.cfg.Name, Action: "shard-refound",
		Target: fmt.Sprintf("shard %d, generation %d", shard, generation), Outcome: "ok"}
	if err := n.audit.Write(ctx, &entry); err != nil {
		n.cfg.Logger.Error("a shard began anew, and the audit log cannot be written", "shard", shard, "error", err)
	}
}
