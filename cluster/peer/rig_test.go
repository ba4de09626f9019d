package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloakroom/cluster/peer/peertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testCluster = [16]byte{0: 0xc1, 15: 0x0a}

// rig is a cluster of ports with one register of nodes.
type rig struct {
	t       testing.TB
	ca      *peertest.CA
	carrier Carrier // nil: TCP
	log     *logged

	mu    sync.Mutex
	nodes map[string]entry
	lives int
}

type entry struct{ addr, life string }

func newRig(t testing.TB, carrier Carrier) *rig {
	return &rig{t: t, ca: peertest.NewCA(t, testCluster), carrier: carrier, log: &logged{}, nodes: map[string]entry{}}
}

func (r *rig) newLife() string {
	r.lives++
	return fmt.Sprintf("%032x", r.lives)
}

// config returns that of a node whose calls are echoed.
func (r *rig) config(node string) Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg := Config{
		Cluster: testCluster, Node: node, Life: r.newLife(),
		Certificate: r.ca.Node(node), Roots: r.ca.Roots(),
		Listen: "127.0.0.1:0", Carrier: r.carrier, Now: time.Now,
		Logger:  slog.New(slog.NewTextHandler(r.log, nil)),
		Resolve: r.resolve, Admit: r.admit,
		Handle: func(_ context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) { return body, nil },
	}
	if r.carrier != nil {
		cfg.Listen = node + ":1"
	}
	return cfg
}

// start opens a port and registers its node.
func (r *rig) start(node string, change ...func(*Config)) *Port {
	r.t.Helper()
	cfg := r.config(node)
	for _, f := range change {
		f(&cfg)
	}
	p, err := Open(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Close)
	r.register(node, p.Addr(), cfg.Life)
	return p
}

func (r *rig) register(node, addr, life string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[node] = entry{addr, life}
}

func (r *rig) remove(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, node)
}

func (r *rig) resolve(node string) (addr, life string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.nodes[node]
	return e.addr, e.life, ok
}

func (r *rig) admit(node, life string) error {
	if _, registered, ok := r.resolve(node); !ok || registered != life {
		return errors.New("not registered")
	}
	return nil
}

// logged keeps what was logged.
type logged struct {
	mu  sync.Mutex
	all []byte
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, b...)
	return len(b), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

func contains(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}
