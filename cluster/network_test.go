package cluster

import (
	"testing"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
)

// A life that is over is not admitted any more, not even by those who learned
// of it when they joined.
func TestAnOldBookIsClosed(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	old := h.node("n1").life
	h.kill("n1")
	h.start("n1")
	h.awaitTolerance(1)
	for _, name := range []string{"n2", "n3"} {
		if err := h.node(name).net.admit("n1", old); err == nil {
			t.Errorf("%s admits a life of n1 that is over", name)
		}
		if err := h.node(name).net.admit("n1", h.node("n1").life); err != nil {
			t.Errorf("%s does not admit n1: %v", name, err)
		}
	}
}

// A node of the cluster speaks for a replica that the directory does not list,
// or that lives elsewhere. It must not be heard: a term from it ends every lead.
func TestAnUnlistedReplicaIsNotHeard(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	n1, n2 := h.node("n1"), h.node("n2")
	victim := n1.group(1).member.Load()
	mine := n2.group(1).member.Load().self
	elsewhere := h.node("n3").group(1).member.Load().self
	for id, heard := range map[string]bool{"r-nobody": false, elsewhere.ID: false, n2.desk.member.Load().self.ID: false, mine.ID: true} {
		if err := n1.net.admitReplica(directory.ShardGroup(0), peer.Peer{Node: "n2", Life: n2.life}, id); (err == nil) != heard {
			t.Errorf("%s on n2: %v", id, err)
		}
	}
	stream, err := n2.net.Stream(peer.StreamConfig{Group: 1, Generation: 1, Replica: "r-nobody", Address: "at-nobody",
		Locate: func(addr string) (string, string, string, bool) { return n2.net.locate(1, addr) }})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if conn, err := stream.Dial(victim.self.Addr, time.Second); err == nil {
		conn.Close()
		t.Error("a replica that the directory does not know was let in")
	}
}
