package simnet

import (
	"slices"
	"time"
)

// Cut is what a link does to the bytes it is given.
type Cut uint8

const (
	// Open carries them.
	Open Cut = iota
	// Hold keeps them back until the link is open again: a short partition,
	// after which TCP sends once more what was lost.
	Hold
	// Swallow loses them for good. A connection that lost bytes carries no
	// more in that direction, ever: a middlebox has forgotten it. Its ends
	// find out by their own timeouts.
	Swallow
)

// link is one direction between two hosts. Net.mu guards it.
type link struct {
	from, to *place
	cut      Cut
	delay    Delay
	loss     float64 // chance of each write to break its connection
	serial   uint64  // connections so far
	halves   []*half // those that carry bytes
}

// held reports whether nothing arrives now. A paused host neither sends nor
// takes anything in.
func (l *link) held() bool { return l.cut != Open || l.from.paused || l.to.paused }

// ring wakes everybody who waits for this link.
func (l *link) ring() {
	for _, h := range l.halves {
		h.bell.ring()
	}
}

func (l *link) remove(h *half) {
	if i := slices.Index(l.halves, h); i >= 0 {
		l.halves = slices.Delete(l.halves, i, i+1)
	}
}

// SetCut opens or cuts the link from one host to another, in that direction.
func (n *Net) SetCut(from, to string, cut Cut) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	l.cut = cut
	if cut == Swallow {
		for _, h := range l.halves {
			h.swallow()
		}
	}
	l.ring()
	n.changed.ring()
}

// SetDelay changes how long bytes travel from one host to another; what is on
// its way keeps its time.
func (n *Net) SetDelay(from, to string, d Delay) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).delay = d
}

// SetLoss changes the chance of each write from one host to another to break
// its connection: with a reset for both ends, or for one in two without a word.
func (n *Net) SetLoss(from, to string, chance float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).loss = chance
}

// Break resets every connection between two hosts.
func (n *Net) Break(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range []*link{n.link(a, b), n.link(b, a)} {
		for _, h := range slices.Clone(l.halves) {
			n.reset(h.writer)
			n.reset(h.writer.peer)
		}
	}
}

// Heal opens every link, takes delays and loss back to what the network began
// with, and resumes every paused host. What died stays dead.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.hosts {
		p.paused = false
	}
	for _, l := range n.links {
		l.cut, l.loss, l.delay = Open, 0, n.cfg.Delay
	}
	for _, l := range n.links {
		l.ring()
	}
	n.changed.ring()
}

// Pause holds all bytes from and to a host, like SIGSTOP seen from outside.
// The host's own timers run on: whoever simulates a paused process stops what
// clock it can by other means.
func (n *Net) Pause(host string) { n.setPaused(host, true) }

// Resume ends a pause. What was held arrives at once.
func (n *Net) Resume(host string) { n.setPaused(host, false) }

func (n *Net) setPaused(host string, paused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.place(host).paused = paused
	n.ringAround(host)
}

// ringAround wakes everybody who waits for a link of host. The caller holds mu.
func (n *Net) ringAround(host string) {
	for r, l := range n.links {
		if r.from == host || r.to == host {
			l.ring()
		}
	}
	n.changed.ring()
}

// draw returns how long the next bytes of h travel.
func (h *half) draw() time.Duration {
	d := h.link.delay.Base
	if j := h.link.delay.Jitter; j > 0 {
		d += time.Duration(h.random.Int64N(int64(j)))
	}
	return d
}
