package peer

import (
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
)

// sender writes the frames of one connection, many in one write where many
// come at once. One goroutine at a time has the writer's role (writing): the
// one that added a frame while nobody wrote, or else run's.
//
// Frames are gathered in batches, which are numbered. What stands in a batch
// that was not begun to be written has not left.
type sender struct {
	conn io.Writer
	fail func(error) // cuts the connection
	wake chan struct{}
	room *sync.Cond // on mu: a batch was written, or failed

	mu      sync.Mutex
	queue   [][]byte // the batches that wait
	queued  int      // bytes in them
	batch   uint64   // number of queue[0]; lower ones were begun
	spare   []byte   // a buffer for the next one
	writing bool
	failed  bool
	seen    uint64 // progress at the last tick
	still   int    // ticks since then
}

const (
	// batchBytes is how large a batch is when the next one is begun. A batch
	// is the unit of "may have been sent", and one write shares its price.
	batchBytes = 64 << 10
	// keepBuffer is the largest buffer that is used again, in bytes.
	keepBuffer = 2 * batchBytes
)

func newSender(conn io.Writer, fail func(error)) *sender {
	s := &sender{conn: conn, fail: fail, wake: make(chan struct{}, 1)}
	s.room = sync.NewCond(&s.mu)
	return s
}

// add gathers a frame and returns the batch it is in and where. Needs mu.
func (s *sender) add(f frame, body []byte) (batch uint64, at int) {
	last := len(s.queue) - 1
	if last < 0 || len(s.queue[last]) >= batchBytes {
		s.queue = append(s.queue, s.spare[:0])
		s.spare = nil
		last++
	}
	at = len(s.queue[last])
	s.queue[last] = f.append(s.queue[last], body)
	s.queued += frameHead + len(body)
	return s.batch + uint64(last), at
}

// unsent says that nothing of a batch was written. Needs mu.
func (s *sender) unsent(batch uint64) bool { return batch >= s.batch }

// takeBack makes a frame of an unsent batch void. Needs mu.
func (s *sender) takeBack(batch uint64, at int) {
	s.queue[batch-s.batch][at+kindOffset] = byte(void)
}

// flush sees to it that what was gathered gets written, and unlocks. here: the
// one who calls may write, that is, may be held up as long as the connection
// is. more: others are about to add frames; they go first, so that one write
// takes them all along. Needs mu.
func (s *sender) flush(here, more bool) {
	if s.writing || s.failed {
		s.mu.Unlock()
		return // whoever writes goes on until nothing is pending
	}
	s.writing = true
	if here && more {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	if here && !s.writeBatch() {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.wake <- struct{}{} // the role goes to run; there is room, since it is one role
}

// writeBatch writes a batch and returns whether there is more, else the role
// ends. Needs mu, which is free during the write, and the role.
func (s *sender) writeBatch() (more bool) {
	if len(s.queue) > 0 {
		batch := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		s.queued -= len(batch)
		s.batch++
		s.mu.Unlock()
		_, err := s.conn.Write(batch)
		if err != nil {
			s.fail(err) // not under mu: whoever waits for an answer is told
		}
		s.mu.Lock()
		s.failed = s.failed || err != nil
		s.room.Broadcast()
		if cap(batch) <= keepBuffer {
			s.spare = batch
		}
	}
	s.writing = len(s.queue) > 0 && !s.failed
	return s.writing
}

// run writes whenever woken, until done is closed.
func (s *sender) run(done <-chan struct{}) {
	for {
		select {
		case <-s.wake:
		case <-done:
			return
		}
		runtime.Gosched() // whoever is about to add a frame goes first
		s.mu.Lock()
		for s.writeBatch() {
		}
		s.mu.Unlock()
	}
}

var errStalled = errors.New("the peer takes nothing")

// tick says whether the present write has stood still for too long. progress
// counts the pieces of it that got through: a large one may take its time.
func (s *sender) tick(progress uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.writing || progress != s.seen {
		s.seen, s.still = progress, 0
		return nil
	}
	if s.still++; s.still >= ticks {
		return errStalled
	}
	return nil
}
