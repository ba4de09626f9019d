package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
)

// server is the answering end of a connection that carries calls.
type server struct {
	link    *link
	peer    Peer
	out     *sender
	work    chan work // to workers that have nothing to do
	idle    atomic.Int32
	workers sync.WaitGroup

	// Guarded by out.mu; out.room tells of changes:
	calls  int // being answered
	bodies int // bytes of them
	dead   bool
}

// work is one call to be answered.
type work struct {
	id     uint32
	method uint8
	millis uint32
	body   *[]byte // from Port.bodies
}

// serve answers calls until the link is cut, and returns when nobody works on
// one any more.
func (p *Port) serve(l *link) {
	s := &server{link: l, peer: l.peer, out: newSender(l.tls, l.cut), work: make(chan work)}
	s.workers.Go(func() { s.out.run(l.ctx.Done()) }) // ends with the link
	l.attend(func() error { return s.out.tick(l.raw.writes.Load()) }, s.fail)
	l.cut(s.read())
	s.workers.Wait()
}

func (s *server) fail() {
	s.out.mu.Lock()
	s.dead = true
	s.out.room.Broadcast()
	s.out.mu.Unlock()
}

// read takes calls and hands them to workers until there is an error.
func (s *server) read() error {
	r := bufio.NewReaderSize(s.link.tls, readBuffer)
	for {
		f, err := readFrame(r, true)
		if err != nil {
			return err
		}
		if f.kind == ping {
			if err := s.pong(); err != nil {
				return err
			}
			continue
		}
		if err := s.await(f.size); err != nil {
			return err
		}
		body := s.link.port.bodies.Get().(*[]byte)
		if *body, err = readBody(r, (*body)[:0], f.size); err != nil {
			return err
		}
		w := work{id: f.id, method: f.detail, millis: f.millis, body: body}
		if f.kind == void {
			s.reply(w, nil, cloakroom.ErrUnavailable)
		} else {
			s.dispatch(w)
		}
	}
}

// pong answers a ping, unless the peer reads no answers.
func (s *server) pong() error {
	s.out.mu.Lock()
	if s.out.queued > s.link.port.cfg.backlog {
		s.out.mu.Unlock()
		return errNotRead
	}
	s.out.add(frame{kind: pong}, nil)
	s.out.flush(false, false) // unlocks
	return nil
}

// await waits until there is room for one more call, and takes it.
func (s *server) await(size int) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	most := s.link.port.cfg.bodies
	for !s.dead && (s.calls >= maxInFlight || s.calls > 0 && s.bodies+size > most || s.out.writing && s.out.queued > most) {
		s.out.room.Wait()
	}
	if s.dead {
		return s.link.why(errFinished)
	}
	s.calls++
	s.bodies += size
	return nil
}

func (s *server) dispatch(w work) {
	select {
	case s.work <- w:
	default:
		s.workers.Go(func() { s.worker(w) }) // ends with the link, or before
	}
}

// worker answers w, and then waits for another call for as long as the link is
// there: its stack has grown to what Handle needs.
func (s *server) worker(w work) {
	for {
		s.answer(w)
		if s.idle.Add(1) > maxIdleWorkers {
			s.idle.Add(-1)
			return
		}
		select {
		case w = <-s.work:
			s.idle.Add(-1)
		case <-s.link.ctx.Done():
			return
		}
	}
}

// open returns the methods that are open to one who was not admitted.
func (s *server) open() []uint8 {
	if s.link.kind == overdue {
		return s.link.port.cfg.LateMethods
	}
	return s.link.port.cfg.Guests
}

func (s *server) answer(w work) {
	ctx, cancel := context.WithTimeout(s.link.ctx, time.Duration(w.millis)*time.Millisecond)
	defer cancel()
	cfg := &s.link.port.cfg
	if !s.peer.Admitted && !slices.Contains(s.open(), w.method) {
		s.reply(w, nil, cloakroom.ErrDenied)
		return
	}
	body, err := cfg.Handle(ctx, s.peer, w.method, *w.body)
	if err == nil && len(body) > MaxMessage {
		err = fmt.Errorf("reply of %d bytes: %w", len(body), cloakroom.ErrOutcomeUnknown)
	}
	if err != nil && outcomeOf(err) == outcomeUnknown && s.link.port.complaints.first(complaint{s.peer.Node, "call"}) {
		cfg.Logger.Warn("call failed", "node", s.peer.Node, "method", w.method, "error", err)
	}
	s.link.port.served.Add(1)
	s.reply(w, body, err)
}

var errNotRead = errors.New("the peer asks and does not read the answers")

// reply sends an answer, or has it sent, and gives the call's room back.
func (s *server) reply(w work, body []byte, err error) {
	f := frame{id: w.id, kind: reply}
	if err != nil {
		f.kind, f.detail, body = failure, uint8(outcomeOf(err)), nil
	}
	s.out.mu.Lock()
	s.calls--
	s.bodies -= len(*w.body)
	if s.dead {
		s.out.mu.Unlock()
		return
	}
	s.out.add(f, body)
	overflow := s.out.queued > s.link.port.cfg.backlog
	s.out.flush(true, s.calls > 0) // unlocks
	if overflow {
		s.link.cut(errNotRead)
	}
	if cap(*w.body) <= keepBuffer {
		s.link.port.bodies.Put(w.body)
	}
}
