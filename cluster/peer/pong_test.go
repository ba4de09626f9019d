package peer

import (
	"errors"
	"io"
	"testing"
)

// A peer that sends pings and reads nothing is cut, like one that asks and
// reads nothing.
func TestPingsWithoutEndAreCut(t *testing.T) {
	s := &server{link: &link{port: &Port{cfg: Config{backlog: 100}}}, out: newSender(io.Discard, nil)}
	s.out.writing = true // somebody is held up in a write
	for range 200 {
		if err := s.pong(); err != nil {
			if !errors.Is(err, errNotRead) {
				t.Errorf("got %v, want %v", err, errNotRead)
			}
			return
		}
	}
	t.Errorf("%d bytes of pongs wait", s.out.queued)
}
