package gossip

import (
	"bytes"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"
)

// events hears that something has changed. It is called under memberlist's
// lock: it must not wait, nor ask what has changed. So it says "look" and no
// more, and a second one that comes before anybody has looked is dropped.
type events Gossip

func (e *events) NotifyJoin(*memberlist.Node)   { (*Gossip)(e).Look() }
func (e *events) NotifyLeave(*memberlist.Node)  { (*Gossip)(e).Look() }
func (e *events) NotifyUpdate(*memberlist.Node) {}

// gate keeps out whom the directory does not know: a life that is over, a node
// that was removed. Under memberlist's lock, too.
type gate Gossip

var errUnknown = errors.New("not registered with that life")

func (a *gate) NotifyAlive(peer *memberlist.Node) error {
	m, ok := parseName(peer.Name)
	if !ok || m != a.cfg.Self && !a.cfg.registered(m) {
		return errUnknown
	}
	return nil
}

// registered reports whether m is the registered life of its node.
func (c *Config) registered(m Member) bool {
	for _, other := range c.Members() {
		if other == m {
			return true
		}
	}
	return false
}

// pings hears who has answered.
type pings Gossip

func (p *pings) AckPayload() []byte { return nil }

func (p *pings) NotifyPingComplete(other *memberlist.Node, _ time.Duration, _ []byte) {
	if m, ok := parseName(other.Name); ok && p.ctx.Err() == nil {
		p.cfg.Heard(m)
	}
}

// logLines passes memberlist's lines on, for those who debug: what it has to
// say of others are hints.
type logLines struct{ to *slog.Logger }

func (l logLines) Write(line []byte) (int, error) {
	text := line
	if at := bytes.IndexByte(text, '['); at >= 0 { // behind date and time
		text = text[at:]
	}
	l.to.Debug("gossip", "detail", string(bytes.TrimSpace(text)))
	return len(line), nil
}
