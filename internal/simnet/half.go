package simnet

import (
	"math/rand/v2"
	"time"
)

// half is one direction of a connection: bytes on their way, in order. Net.mu
// guards it.
type half struct {
	link   *link
	writer *Conn
	random *rand.Rand
	window int
	queue  []piece
	bytes  int       // in queue
	last   time.Time // when the newest piece is due
	dead   bool      // swallowed bytes: nothing arrives any more
	tail   []byte    // the newest bytes, for the canary
	bell   bell      // rings when something changes for reader or writer
}

// piece is what one write sent, or how the connection ends.
type piece struct {
	due  time.Time
	data []byte
	end  ending
}

type ending uint8

const (
	goesOn ending = iota
	finished
	wasReset
)

// swallow loses what is on its way, and all that comes.
func (h *half) swallow() {
	if len(h.queue) > 0 {
		h.dead = true
	}
	if h.dead {
		// bytes stays: nobody acknowledges them, so the window fills up.
		h.queue = nil
	}
}

// send puts a piece on its way.
func (h *half) send(p piece) {
	if h.link.cut == Swallow {
		h.dead = true
	}
	h.bytes += len(p.data)
	if h.dead {
		return
	}
	p.due = time.Now().Add(h.draw())
	if p.due.Before(h.last) {
		p.due = h.last
	}
	if p.end == wasReset {
		h.queue, h.bytes = nil, 0 // a reset overtakes what is on its way
	}
	h.last = p.due
	h.queue = append(h.queue, p)
	h.bell.ring()
}

// front returns the piece that has arrived, nil if none has, and when to look
// again: zero if nothing is on its way, or if it is held.
func (h *half) front() (*piece, time.Time) {
	if h.dead || len(h.queue) == 0 || h.link.held() {
		return nil, time.Time{}
	}
	p := &h.queue[0]
	if p.due.After(time.Now()) {
		return nil, p.due
	}
	return p, time.Time{}
}

// take moves arrived bytes into dst. Endings stay for the next read.
func (h *half) take(dst []byte) (n int, end ending, again time.Time) {
	for n < len(dst) {
		p, when := h.front()
		if p == nil || p.end != goesOn {
			if p != nil {
				end = p.end
			}
			again = when
			break
		}
		k := copy(dst[n:], p.data)
		n, h.bytes, p.data = n+k, h.bytes-k, p.data[k:]
		if len(p.data) == 0 {
			h.queue[0] = piece{}
			h.queue = h.queue[1:]
		}
	}
	if n > 0 {
		h.bell.ring() // there is room again
	}
	return n, end, again
}
