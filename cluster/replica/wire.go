package replica

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"cloakroom"
)

const (
	// idleSweeps is after how many sweeps without traffic a dialled connection
	// goes: a replica that led once needs none to its former followers.
	idleSweeps = 10
	// stride is how much is written at once, so that progress on a slow line
	// can be seen.
	stride = 64 << 10
	// maxRequest bounds what comes in before an answer goes out, snapshots
	// apart: raft reads a request onto the heap whole. Two full ones may be on
	// their way, of MaxAppendEntries entries each.
	maxRequest = 2 * 64 * (cloakroom.MaxEntryBytes + cloakroom.MaxEntryBytes/2)
	// snapshotRequest is the first byte of a request to install a snapshot
	// (raft's net_transport.go, v1.8.0).
	snapshotRequest = 2
)

var errLongRequest = errors.New("request is too long")

// wire is one open connection of a replica.
//
// What must not stall is a write, and on an accepted connection the rest of a
// request that has begun: raft's main loop itself reads a snapshot, and casts
// no vote meanwhile. Waiting for the next request is no stall, and an answer
// may take its time (answerTimeout bounds it).
type wire struct {
	net.Conn
	streams *streams
	to      string // virtual address dialled; "" if accepted

	// Accepted, and its handler's alone:
	begun  bool   // bytes of a request came in since the last answer
	kind   byte   // the first of them
	length uint64 // how many

	ops     atomic.Uint64 // odd while something is under way that must not stall
	moved   atomic.Uint64 // bytes, both ways
	reading atomic.Int32

	// The sweeper's alone: what it saw last.
	seenOps, seenMoved uint64
	still              int // sweeps without traffic

	cutting, closing sync.Once
}

func (w *wire) Read(p []byte) (int, error) {
	w.reading.Add(1)
	defer w.reading.Add(-1)
	if w.begun {
		w.ops.Add(1)
		defer w.ops.Add(1)
	}
	n, err := w.Conn.Read(p)
	w.moved.Add(uint64(n))
	if n > 0 && w.to == "" {
		if !w.begun {
			w.begun, w.kind, w.length = true, p[0], 0
		}
		if w.length += uint64(n); w.length > maxRequest && w.kind != snapshotRequest {
			w.cut()
			return 0, errLongRequest
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (written int, err error) {
	w.ops.Add(1)
	defer w.ops.Add(1)
	for {
		n, err := w.Conn.Write(p[written:min(len(p), written+stride)])
		written += n
		w.moved.Add(uint64(n))
		if err != nil || written == len(p) {
			if w.to == "" {
				w.begun = false
			}
			return written, err
		}
	}
}

// RemoteAddr never returns nil: raft's transport prints it.
func (w *wire) RemoteAddr() net.Addr {
	if addr := w.Conn.RemoteAddr(); addr != nil {
		return addr
	}
	return virtual(w.to)
}

// Close is called by raft's transport when it is done with the connection, for
// an accepted one at the end of the goroutine that served it.
func (w *wire) Close() error {
	w.cut()
	w.closing.Do(func() {
		if w.to == "" {
			w.streams.serving.Done()
		}
	})
	return nil
}

// cut closes the connection under whoever uses it.
func (w *wire) cut() {
	w.cutting.Do(func() {
		w.Conn.Close()
		w.streams.forget(w)
	})
}

// look is called by each sweep and reports whether the connection has stalled
// since the last, or was idle for long.
func (w *wire) look() (stalled, idle bool) {
	ops, moved := w.ops.Load(), w.moved.Load()
	stalled = ops%2 == 1 && ops == w.seenOps && moved == w.seenMoved
	if moved == w.seenMoved {
		w.still++
	} else {
		w.still = 0
	}
	w.seenOps, w.seenMoved = ops, moved
	// One that waits for the answer to a snapshot is not idle.
	return stalled, w.to != "" && w.still > idleSweeps && w.reading.Load() == 0
}
