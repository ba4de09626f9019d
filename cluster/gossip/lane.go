package gossip

import (
	"context"
	"net"
	"slices"
	"time"
)

// lane is the way packets take to one member: a queue, and a goroutine with a
// connection while there is something to send.
type lane struct {
	to    Member
	queue chan []byte
}

// push queues a packet. It returns false if there is no room, or all is over.
func (t *transport) push(m Member, b []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	l := t.lanes[m]
	if l == nil {
		l = &lane{to: m, queue: make(chan []byte, laneQueue)}
		t.lanes[m] = l
		t.running.Go(func() { t.run(l) }) // ends with t.ctx, or when it has nothing to do
	}
	select {
	case l.queue <- slices.Clone(b):
		return true
	default:
		return false
	}
}

// run sends what is queued until there has been nothing for a while.
func (t *transport) run(l *lane) {
	var conn net.Conn
	hang := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer hang()
	for {
		b, ok := t.pull(l)
		if !ok {
			return
		}
		if conn == nil {
			if conn = t.open(l); conn == nil {
				continue
			}
		}
		ctx, cancel := context.WithTimeout(t.ctx, writeTime)
		if writeInTime(ctx, conn, appendPacket(nil, b)) != nil {
			t.dropped.Add(1)
			hang()
		}
		cancel()
	}
}

// pull waits for the next packet. It returns false when the lane is given up.
func (t *transport) pull(l *lane) ([]byte, bool) {
	idle := time.NewTimer(idleTime)
	defer idle.Stop()
	for {
		select {
		case b := <-l.queue:
			return b, true
		case <-t.ctx.Done():
			return nil, false
		case <-idle.C:
			t.mu.Lock()
			unused := len(l.queue) == 0 // push holds mu, too
			if unused {
				delete(t.lanes, l.to)
			}
			t.mu.Unlock()
			if unused {
				return nil, false
			}
		}
	}
}

// open connects. If it can't, what waits is dropped: it would be old when it
// got there.
func (t *transport) open(l *lane) net.Conn {
	ctx, cancel := context.WithTimeout(t.ctx, streamTime)
	defer cancel()
	if t.cfg.registered(l.to) {
		if conn, err := t.connect(ctx, l.to, packets); err == nil {
			return conn
		}
	}
	t.dropped.Add(1) // the one that was taken
	for {
		select {
		case <-l.queue:
			t.dropped.Add(1)
		default:
			return nil
		}
	}
}
