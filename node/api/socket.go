package api

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// socket is an accepted connection whose deadlines are set in the kernel's
// poller only when they matter. net/http moves them five times per request;
// here a move is one store, and a read or write that finds an earlier deadline
// armed than it was given arms its own and goes on.
//
// SetReadDeadline and SetWriteDeadline act on the next Read and Write: they do
// not interrupt one that is under way. Close does.
type socket struct {
	net.Conn
	base time.Time // monotonic origin of the times below

	readWant, writeWant   atomic.Int64 // ns since base, 0: none
	readArmed, writeArmed int64        // what the poller was told; of the goroutine that reads, or writes

	ahead ahead
}

func newSocket(c net.Conn) *socket { return &socket{Conn: c, base: time.Now()} }

func (s *socket) SetDeadline(t time.Time) error {
	s.readWant.Store(s.since(t))
	s.writeWant.Store(s.since(t))
	return nil
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.readWant.Store(s.since(t))
	return nil
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.writeWant.Store(s.since(t))
	return nil
}

// since turns a deadline into nanoseconds since base; a time before base is
// long past.
func (s *socket) since(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(s.base)), 1)
}

func (s *socket) at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return s.base.Add(time.Duration(ns))
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		want := s.readWant.Load()
		if want != 0 && (s.readArmed == 0 || want < s.readArmed) {
			s.armRead(want)
		}
		n, err := s.ahead.read(s.Conn, p)
		if err == nil || n > 0 || s.readArmed == want || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		s.armRead(want) // an earlier wait had armed it
	}
}

func (s *socket) armRead(want int64) {
	s.readArmed = want
	s.Conn.SetReadDeadline(s.at(want)) //nolint:errcheck // the Read that follows reports a closed connection
}

func (s *socket) Write(p []byte) (int, error) {
	written := 0
	for {
		want := s.writeWant.Load()
		if want != 0 && (s.writeArmed == 0 || want < s.writeArmed) {
			s.armWrite(want)
		}
		n, err := s.Conn.Write(p[written:])
		written += n
		if err == nil || s.writeArmed == want || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		s.armWrite(want)
	}
}

func (s *socket) armWrite(want int64) {
	s.writeArmed = want
	s.Conn.SetWriteDeadline(s.at(want)) //nolint:errcheck // as above
}

// CloseWrite ends our side of the connection.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
