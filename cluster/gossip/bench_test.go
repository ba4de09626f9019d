package gossip

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"cloakroom/cluster/peer"
	"cloakroom/cluster/peer/peertest"
)

// BenchmarkIdle lets five members gossip of nothing over loopback TLS, one
// second an operation, and reports the processor time that one of them takes.
func BenchmarkIdle(b *testing.B) {
	ca := peertest.NewCA(b, testCluster)
	addrs := map[string]string{}
	var members []Member
	for i := range 5 {
		members = append(members, Member{fmt.Sprintf("n%d", i), fmt.Sprintf("%032x", i+1)})
	}
	resolve := func(node string) (addr, life string, ok bool) {
		for _, m := range members {
			if m.Node == node {
				return addrs[node], m.Life, true
			}
		}
		return "", "", false
	}
	var all []*Gossip
	for _, m := range members {
		var port *peer.Port
		g, err := New(Config{Self: m, Cluster: testCluster, Members: func() []Member { return members }, Now: time.Now,
			Dial: func(ctx context.Context, node string) (net.Conn, error) { return port.DialGossip(ctx, node) }})
		if err != nil {
			b.Fatal(err)
		}
		port, err = peer.Open(peer.Config{Cluster: testCluster, Node: m.Node, Life: m.Life,
			Certificate: ca.Node(m.Node), Roots: ca.Roots(), Listen: "127.0.0.1:0", Now: time.Now,
			Resolve: resolve, Admit: func(string, string) error { return nil },
			Handle: func(context.Context, peer.Peer, uint8, []byte) ([]byte, error) { return nil, nil },
			Gossip: func(conn net.Conn, from peer.Peer) { g.Serve(conn, Member{from.Node, from.Life}) }})
		if err != nil {
			b.Fatal(err)
		}
		defer port.Close()
		defer g.Close()
		addrs[m.Node] = port.Addr()
		all = append(all, g)
	}
	for _, g := range all {
		if err := g.Start(); err != nil {
			b.Fatal(err)
		}
	}
	for all[0].Stats().Alive < len(all)-1 || all[4].Stats().Alive < len(all)-1 {
		<-time.After(10 * time.Millisecond)
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	before, sent := processor(b), all[0].Stats().Sent
	b.ResetTimer()
	for range b.N {
		<-second.C
	}
	b.StopTimer()
	took := processor(b) - before
	b.ReportMetric(float64(took.Microseconds())/float64(b.N*len(all)), "cpu-µs/member/s")
	b.ReportMetric(float64(all[0].Stats().Sent-sent)/float64(b.N), "packets/s")
}

// processor returns what this process has used of processors.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
