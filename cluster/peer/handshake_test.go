package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/peer/peertest"
)

// bubbled runs f in a bubble, with a rig on a network in memory.
func bubbled(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t, &peertest.Network{})) })
}

// raw connects past the port of another node, to misbehave.
func (r *rig) raw(addr string) net.Conn {
	r.t.Helper()
	conn, err := r.carrier.Dial(context.Background(), addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// rawTLS connects with TLS and no more. A nil certificate is none.
func (r *rig) rawTLS(addr string, certificate *tls.Certificate, protocols ...string) *tls.Conn {
	cfg := &tls.Config{RootCAs: r.ca.Roots(), ServerName: cert.ServerName, NextProtos: protocols}
	if certificate != nil {
		cfg.Certificates = []tls.Certificate{*certificate}
	}
	return tls.Client(r.raw(addr), cfg)
}

// admitted returns a connection that is through both handshakes, as the node
// named would have it, to misbehave with frames.
func (r *rig) admitted(node, life, to, addr string) *tls.Conn {
	r.t.Helper()
	certificate := r.ca.Node(node)
	conn := r.rawTLS(addr, &certificate, calls.protocol())
	me, err := parseLife(life)
	if err != nil {
		r.t.Fatal(err)
	}
	h := hello{kind: calls, cluster: testCluster, life: me, node: node, wantNode: to}
	conn.Write(h.append(nil))
	if a, err := readAnswer(conn); err != nil || a.refusal != admitted {
		r.t.Fatal("not admitted:", a, err)
	}
	return conn
}

// wellFor says that a and b can talk.
func wellFor(t *testing.T, a *Port, b string) {
	t.Helper()
	got, err := a.Call(t.Context(), b, 1, []byte("well"))
	if err != nil || string(got) != "well" {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// hungUp waits until the other side closes conn, and returns after how long.
func hungUp(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	from := time.Now()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	return time.Since(from)
}

func TestGarbageIsHungUpOn(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		conn := r.raw("b:1")
		conn.Write([]byte("GET / HTTP/1.1\r\nHost: b\r\n\r\n"))
		if took := hungUp(t, conn); took != 0 {
			t.Error("after", took)
		}
		mine := r.ca.Node("a")
		for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "CRhi\x02\x01\x00\x00", "CRhi\x01\x03\x00\x00"} {
			inside := r.rawTLS("b:1", &mine, calls.protocol())
			inside.Write([]byte(garbage))
			if took := hungUp(t, inside); took != 0 {
				t.Errorf("%q: after %v", garbage, took)
			}
		}
		synctest.Wait()
		if got := b.Stats().Refused; got["TLS failed"] != 1 || got["malformed handshake"] != 3 {
			t.Error(got)
		}
		wellFor(t, a, "b")
	})
}

// Whoever says nothing, or too little, or too slowly, is cut after the time of
// a handshake, and holds up nobody meanwhile.
func TestSlowHandshakeIsCut(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		mine := r.ca.Node("a")
		hi := hello{kind: calls, cluster: testCluster, node: "a", wantNode: "b"}
		for name, say := range map[string]func(net.Conn){
			"silent":       func(net.Conn) {},
			"half a hello": func(c net.Conn) { c.Write([]byte{22, 3, 1}) },
			"TLS and no more": func(c net.Conn) {
				tls.Client(c, &tls.Config{RootCAs: r.ca.Roots(), ServerName: cert.ServerName, Certificates: []tls.Certificate{mine}}).Handshake()
			},
			"half of ours": func(c net.Conn) {
				inside := tls.Client(c, &tls.Config{RootCAs: r.ca.Roots(), ServerName: cert.ServerName,
					Certificates: []tls.Certificate{mine}, NextProtos: []string{calls.protocol()}})
				inside.Write(hi.append(nil)[:40])
			},
			"a byte now and then": func(c net.Conn) {
				go func() { // ends when the connection is cut
					for said := []byte{22, 3, 1, 2, 0}; ; said = []byte{0, 0, 0} {
						for _, b := range said {
							if _, err := c.Write([]byte{b}); err != nil {
								return
							}
							after(100 * time.Millisecond)
						}
					}
				}()
			},
		} {
			conn := r.raw("b:1")
			from := time.Now()
			say(conn)
			wellFor(t, a, "b")
			hungUp(t, conn)
			if took := time.Since(from); took < 2*time.Second || took > 2*time.Second+200*time.Millisecond {
				t.Errorf("%s: cut after %v", name, took)
			}
		}
		synctest.Wait()
		if got := b.Stats(); got.Refused["handshake too slow"] != 5 || got.Connections != 1 {
			t.Error(got)
		}
		after(time.Second) // whoever dribbles finds out
	})
}

// Strangers that fill the port push each other out, not the nodes.
func TestManyStrangersKeepNobodyOut(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		wellFor(t, a, "b")
		first := a.way("b")
		var strangers []net.Conn
		for range 3 * maxShaking {
			strangers = append(strangers, r.raw("b:1"))
			synctest.Wait()
		}
		if got := b.Stats(); got.Connections != maxShaking+1 || got.Refused["too many connections"] != 2*maxShaking {
			t.Error(got)
		}
		if took := hungUp(t, strangers[0]); took != 0 {
			t.Error("the oldest was cut after", took)
		}
		wellFor(t, r.start("c"), "b")
		if wellFor(t, a, "b"); a.way("b") != first {
			t.Error("a node's connection was taken for a stranger's")
		}
	})
}

// Every way to be the wrong one is told, counted and logged by its name.
func TestWrongCallersAreRefused(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		cfg := r.config("a")
		me, _ := parseLife(cfg.Life)
		r.register("a", "a:1", cfg.Life)
		b := r.start("b")
		right := hello{kind: calls, cluster: testCluster, life: me, node: "a", wantNode: "b"}
		other := r.ca.Issue(cert.Request{Node: "a", Cluster: [16]byte{9}, NotBefore: cfg.Certificate.Leaf.NotBefore, NotAfter: cfg.Certificate.Leaf.NotAfter})
		c := r.ca.Node("c")
		for _, test := range []struct {
			name   string
			as     *tls.Certificate // default: a's
			alpn   string           // default: what the hello says
			change func(*hello)
			want   refusal
		}{
			{name: "nothing wrong", want: admitted},
			{name: "wrong cluster", change: func(h *hello) { h.cluster[3]++ }, want: refusedCluster},
			{name: "certificate of another cluster", as: &other, want: refusedCluster},
			{name: "certificate of another node", as: &c, want: refusedIdentity},
			{name: "says it is another node", change: func(h *hello) { h.node = "c" }, want: refusedIdentity},
			{name: "wants another node", change: func(h *hello) { h.wantNode = "c" }, want: refusedNode},
			{name: "wants another life", change: func(h *hello) { h.wantLife = life{1} }, want: refusedLife},
			{name: "another life of its own", change: func(h *hello) { h.life[0]++ }, want: refusedMember},
			{name: "not registered", as: &c, change: func(h *hello) { h.node = "c" }, want: refusedMember},
			{name: "kind and ALPN differ", alpn: raft.protocol(), want: refusedMalformed},
			{name: "no such replica", change: toReplica("rx"), want: refusedReplica},
		} {
			h := right
			if test.change != nil {
				test.change(&h)
			}
			mine := r.ca.Node("a")
			if test.as != nil {
				mine = *test.as
			}
			if test.alpn == "" {
				test.alpn = h.kind.protocol()
			}
			before := b.Stats().Refused[test.want.words()]
			conn := r.rawTLS("b:1", &mine, test.alpn)
			conn.Write(h.append(nil))
			if got, err := readAnswer(conn); err != nil || got.refusal != test.want {
				t.Errorf("%s: got %+v, %v, want %q", test.name, got, err, test.want.words())
			}
			if test.want != admitted {
				hungUp(t, conn)
				synctest.Wait()
				if got := b.Stats().Refused[test.want.words()]; got != before+1 {
					t.Errorf("%s: counted %d times", test.name, got-before)
				}
				if log := r.log.String(); !strings.Contains(log, test.want.words()) {
					t.Errorf("%s: not in the log:\n%s", test.name, log)
				}
			}
		}
	})
}

func toReplica(id string) func(*hello) {
	return func(h *hello) {
		h.kind, h.want, h.source = raft, end{group: 1, generation: 1, replica: id}, "ra"
	}
}

// What TLS has to refuse, it refuses.
func TestTLSRefuses(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		b := r.start("b")
		mine := r.ca.Node("a")
		strange := peertest.NewCA(t, testCluster).Node("a")
		now := time.Now()
		expired := r.ca.Issue(cert.Request{Node: "a", NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
		early := r.ca.Issue(cert.Request{Node: "a", NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)})
		for name, cfg := range map[string]*tls.Config{
			"no certificate":   {},
			"wrong CA":         {Certificates: []tls.Certificate{strange}},
			"expired":          {Certificates: []tls.Certificate{expired}},
			"not yet valid":    {Certificates: []tls.Certificate{early}},
			"TLS 1.2":          {Certificates: []tls.Certificate{mine}, MaxVersion: tls.VersionTLS12},
			"join, not served": {Certificates: []tls.Certificate{mine}, NextProtos: []string{"cloakroom-join"}},
		} {
			cfg.RootCAs, cfg.ServerName = r.ca.Roots(), cert.ServerName
			if cfg.NextProtos == nil {
				cfg.NextProtos = []string{calls.protocol()}
			}
			before := b.Stats().Refused["TLS failed"]
			conn := tls.Client(r.raw("b:1"), cfg)
			h := sampleHellos()["calls"]
			conn.Write(h.append(nil))
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: read %d bytes", name, n)
			}
			synctest.Wait()
			if got := b.Stats().Refused["TLS failed"]; got != before+1 {
				t.Errorf("%s: counted %d times: %v", name, got-before, b.Stats().Refused)
			}
		}
	})
}

// The dialler refuses too, and nothing was sent by then.
func TestWrongPeersAreRefused(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		cfg := r.config("b")
		you, _ := parseLife(cfg.Life)
		r.register("b", "b:1", cfg.Life)
		mine := r.ca.Node("b")
		right := answer{life: you, node: "b"}
		now := time.Now()
		expired := r.ca.Issue(cert.Request{Node: "b", NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
		far := r.ca.Issue(cert.Request{Node: "b", Cluster: [16]byte{9}, NotBefore: now, NotAfter: now.Add(time.Hour)})
		c, strange := r.ca.Node("c"), peertest.NewCA(t, testCluster).Node("b")
		for _, test := range []struct {
			name   string
			as     tls.Certificate
			change func(*answer)
			want   string
		}{
			{"certificate of another node", c, nil, "another node was wanted"},
			{"certificate of another cluster", far, nil, "another cluster"},
			{"wrong CA", strange, nil, "certificate signed by unknown authority"},
			{"expired", expired, nil, "certificate has expired"},
			{"says it is another node", mine, func(a *answer) { a.node = "c" }, "not the node its certificate names"},
			{"another life", mine, func(a *answer) { a.life[0]++ }, "another life"},
			{"answers for a replica", mine, func(a *answer) { a.end.replica = "rb" }, "no such replica"},
			{"answers for a group", mine, func(a *answer) { a.end.group = 1 }, "another group"},
			{"answers for a generation", mine, func(a *answer) { a.end.generation = 1 }, "another generation"},
			{"refuses", mine, func(a *answer) { a.refusal = refusedMember }, "refused by the peer: not a member"},
			{"refuses for no reason", mine, func(a *answer) { a.refusal = 200 }, "malformed"},
		} {
			say := right
			if test.change != nil {
				test.change(&say)
			}
			stop := r.impostor("b:1", test.as, say)
			_, err := a.Call(t.Context(), "b", 1, []byte("secret"))
			if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrUnreachable) || !errors.Is(err, cloakroom.ErrUnavailable) ||
				errors.Is(err, cloakroom.ErrOutcomeUnknown) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v", test.name, err)
			}
			if said := stop(); bytes.Contains(said, []byte("secret")) {
				t.Errorf("%s: the call was sent", test.name)
			}
			after(2 * dialPause)
		}
		stop := r.impostor("b:1", mine, right)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Call(ctx, "b", 1, []byte("secret")); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Error("nothing wrong:", err)
		}
		if !bytes.Contains(stop(), []byte("secret")) {
			t.Error("the impostor does not listen: the test proves nothing")
		}
	})
}

// after lets fake time pass.
func after(d time.Duration) { <-time.NewTimer(d).C }

// impostor takes one connection, answers its hello and listens. stop returns
// what was said after it.
func (r *rig) impostor(addr string, as tls.Certificate, say answer) (stop func() []byte) {
	r.t.Helper()
	l, err := r.carrier.Listen(addr)
	if err != nil {
		r.t.Fatal(err)
	}
	said, closing := make(chan []byte, 1), make(chan net.Conn, 1)
	go func() { // ends with stop
		raw, err := l.Accept()
		if err != nil {
			return
		}
		closing <- raw
		conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{as}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{calls.protocol()}})
		var rest []byte
		if _, err := readHello(conn); err == nil {
			conn.Write(say.append(nil))
			rest, _ = io.ReadAll(conn)
		}
		said <- rest
	}()
	return func() []byte {
		l.Close()
		(<-closing).Close()
		return <-said
	}
}

// The time that counts for certificates is Config.Now.
func TestNowDecidesAboutCertificates(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		now := time.Now()
		month := func(cfg *Config) {
			cfg.Certificate = r.ca.Issue(cert.Request{Node: cfg.Node, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour)})
		}
		yearAhead := func(cfg *Config) {
			month(cfg)
			cfg.Now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }
		}
		a := r.start("a", month)
		r.start("b", month)
		late := r.start("c", yearAhead)
		wellFor(t, a, "b")
		for name, err := range map[string]error{
			"dialled": callErr(late.Call(t.Context(), "a", 1, nil)),
			"dials":   callErr(a.Call(t.Context(), "c", 1, nil)),
		} {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s by one who is a year ahead: %v", name, err)
			}
		}
	})
}

func callErr(_ []byte, err error) error { return err }

// Somebody who knocks all day does not fill the log.
func TestComplaintsAreFew(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		b := r.start("b")
		for range 500 {
			conn := r.raw("b:1")
			conn.Write([]byte("garbage garbage garbage"))
			hungUp(t, conn)
		}
		synctest.Wait()
		if n := strings.Count(r.log.String(), "refused a connection"); n != 1 || b.Stats().Refused["TLS failed"] != 500 {
			t.Errorf("%d lines, %v", n, b.Stats().Refused)
		}
		after(2 * time.Minute)
		conn := r.raw("b:1")
		conn.Write([]byte("garbage garbage garbage"))
		hungUp(t, conn)
		synctest.Wait()
		if n := strings.Count(r.log.String(), "refused a connection"); n != 2 {
			t.Errorf("%d lines after a while", n)
		}
	})
}

// tlsServer is the accepting side of a node's TLS.
func (r *rig) tlsServer(raw net.Conn, node string) *tls.Conn {
	return tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{r.ca.Node(node)},
		ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{calls.protocol(), raft.protocol()}})
}
