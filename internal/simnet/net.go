// Package simnet is a network in memory, for tests that run in bubbles of
// testing/synctest. Its connections carry bytes in order, with a delay drawn
// from a seed, and suffer what a test orders: links that hold bytes back or
// swallow them in one direction, connections that break, hosts that crash or
// pause.
//
// It starts no goroutine, and whoever waits in it waits on channels and timers
// of the bubble, so that the bubble's clock moves on. It is safe for concurrent
// use. It is for tests alone; nothing that is shipped imports it.
package simnet

import (
	"bytes"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Delay is how long bytes travel over a link: Base, and up to Jitter more,
// drawn for each write. Order is kept.
type Delay struct{ Base, Jitter time.Duration }

// Config is what a network is made from.
type Config struct {
	Seed   uint64
	Delay  Delay  // of every link until [Net.SetDelay]; default 100 to 300 µs
	Window int    // bytes on their way in one direction of a connection before a write blocks; default 256 KiB
	Canary []byte // must never cross the network in clear; see [Net.Leaks]
}

const (
	defaultWindow = 256 << 10
	backlog       = 128 // connections that wait to be accepted
)

// Net is a network. Its links come into being when they are first used.
type Net struct {
	cfg Config

	mu      sync.Mutex // of everything below, hosts, links and connections included
	hosts   map[string]*place
	links   map[route]*link
	changed bell // rings when a fault comes or goes
	leaks   []string
	stats   Stats
}

// Stats counts what happened on a network.
type Stats struct {
	Dials, Connections, Broken int
	Bytes                      int64 // written
}

// route is one direction between two hosts.
type route struct{ from, to string }

// place is where the lives of a host follow each other.
type place struct {
	name   string
	paused bool
	life   *Host // nil: never started, or crashed
	silent bool  // nothing answers there, not even with a refusal
}

// New returns a network without hosts.
func New(cfg Config) (*Net, error) {
	if cfg.Delay == (Delay{}) {
		cfg.Delay = Delay{Base: 100 * time.Microsecond, Jitter: 200 * time.Microsecond}
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Delay.Base < 0 || cfg.Delay.Jitter < 0 || cfg.Window < 0 {
		return nil, errors.New("simnet: delay and window must not be negative")
	}
	return &Net{cfg: cfg, hosts: make(map[string]*place), links: make(map[route]*link)}, nil
}

// Stats returns what was counted so far.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Leaks tells on which routes the canary was seen.
func (n *Net) Leaks() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.leaks)
}

// place returns the place of that name. The caller holds mu.
func (n *Net) place(name string) *place {
	p := n.hosts[name]
	if p == nil {
		p = &place{name: name}
		n.hosts[name] = p
	}
	return p
}

// link returns the link of a route. The caller holds mu.
func (n *Net) link(from, to string) *link {
	r := route{from, to}
	l := n.links[r]
	if l == nil {
		l = &link{from: n.place(from), to: n.place(to), delay: n.cfg.Delay}
		n.links[r] = l
	}
	return l
}

// source returns the random numbers of the next connection over l: they depend
// on the seed, the route and how many connections it has seen, not on what
// goroutines run first elsewhere. The caller holds mu.
func (n *Net) source(l *link) *rand.Rand {
	l.serial++
	h := fnv.New64a()
	h.Write([]byte(l.from.name + ">" + l.to.name))
	return rand.New(rand.NewPCG(n.cfg.Seed, h.Sum64()+l.serial))
}

// inspect looks for the canary in what a half carries. The caller holds mu.
func (n *Net) inspect(h *half, p []byte) {
	canary := n.cfg.Canary
	if len(canary) == 0 {
		return
	}
	h.tail = append(h.tail, p[:min(len(p), len(canary)-1)]...)
	if bytes.Contains(p, canary) || bytes.Contains(h.tail, canary) {
		n.leaks = append(n.leaks, h.link.from.name+" to "+h.link.to.name)
	}
	h.tail = append(h.tail, p...)
	h.tail = append(h.tail[:0], h.tail[max(0, len(h.tail)-len(canary)+1):]...)
}

// bell wakes everybody who waits. Net.mu guards it.
type bell struct{ ch chan struct{} }

func (b *bell) ring() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// await lets go of mu until one of the bells rings, done is closed, or the
// moment comes; zero: it never does.
func (n *Net) await(moment time.Time, done <-chan struct{}, a, b *bell) {
	for _, each := range []*bell{a, b} {
		if each.ch == nil {
			each.ch = make(chan struct{})
		}
	}
	first, second := a.ch, b.ch
	var alarm <-chan time.Time
	if !moment.IsZero() {
		timer := time.NewTimer(time.Until(moment))
		defer timer.Stop()
		alarm = timer.C
	}
	n.mu.Unlock()
	defer n.mu.Lock()
	select {
	case <-first:
	case <-second:
	case <-done:
	case <-alarm:
	}
}
