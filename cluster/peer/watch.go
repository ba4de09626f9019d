package peer

import (
	"sync"
	"time"
)

// watch looks at the connections that carry calls, a few times within
// Config.Stall, until the port is closed. It counts ticks and reads no clock,
// but the ticks tell the time, and deadlines need no better.
func (p *Port) watch() {
	ticker := time.NewTicker(p.cfg.Stall / ticks)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.ticked.Store(&now)
			p.look()
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Port) look() {
	p.complaints.forget()
	p.mu.Lock()
	links := p.openLinks()
	watches := make([]func() error, len(links))
	for i, l := range links {
		watches[i] = l.watch
	}
	p.mu.Unlock()
	for i, watch := range watches {
		if watch == nil {
			continue
		}
		if err := watch(); err != nil {
			links[i].cut(err)
		}
	}
}

// complaints keeps whoever knocks all day from filling the log: each reason is
// logged once in a while for each node, and for all strangers together.
type complaints struct {
	mu   sync.Mutex
	made map[complaint]struct{}
	age  int // ticks
}

type complaint struct{ node, why string }

const (
	maxComplaints = 64
	complaintAge  = 20 * ticks // of ticks: a minute at the default
)

func (c *complaints) first(about complaint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, is := c.made[about]; is || len(c.made) >= maxComplaints {
		return false
	}
	if c.made == nil {
		c.made = map[complaint]struct{}{}
	}
	c.made[about] = struct{}{}
	return true
}

func (c *complaints) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age++; c.age >= complaintAge {
		c.made, c.age = nil, 0
	}
}

// complain logs a failed handshake. The node is named once its certificate was
// verified; before that there is only an address, and anybody can make many.
func (p *Port) complain(l *link, why refusal, err error) {
	node := ""
	if why != refusedTLS && why != refusedSlow && why != refusedGone && l.tls != nil {
		node, _ = l.identify()
	}
	if p.complaints.first(complaint{node, why.words()}) {
		p.cfg.Logger.Warn("refused a connection", "node", node, "from", l.raw.RemoteAddr().String(), "reason", why.words(), "error", err)
	}
}
