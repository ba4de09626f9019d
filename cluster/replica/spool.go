package replica

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// spool holds a received snapshot off the heap until it is read, and gives the
// memory back piece by piece while it is.
type spool struct {
	mapMem   func(int) ([]byte, error)
	unmapMem func([]byte)
	pieces   [][]byte
	tail     int   // bytes used in the last piece
	size     int64 // bytes written
}

const spoolPiece = 1 << 20

func (s *spool) write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if len(s.pieces) == 0 || s.tail == spoolPiece {
			mem, err := s.mapMem(spoolPiece)
			if err != nil {
				return written - len(p), err
			}
			s.pieces, s.tail = append(s.pieces, mem), 0
		}
		n := copy(s.pieces[len(s.pieces)-1][s.tail:], p)
		s.tail += n
		s.size += int64(n)
		p = p[n:]
	}
	return written, nil
}

func (s *spool) free() {
	for _, mem := range s.pieces {
		s.unmapMem(mem)
	}
	s.pieces, s.tail = nil, 0
}

// receivedReader reads a received snapshot once, opened if it was sealed.
// Closing it notes in the fsm where the state now stands.
type receivedReader struct {
	from   io.ReadCloser
	open   func(sealed io.Reader) (io.Reader, error) // nil: plain
	opened io.Reader
	fsm    *fsm
	meta   raft.SnapshotMeta
	back   bool // for tests: it may take the state back
}

func (r *receivedReader) Read(p []byte) (int, error) {
	if r.opened == nil {
		if applied := r.fsm.command.Load(); r.meta.Index < applied && !r.back {
			// Who reads here was promised never to be taken back.
			return 0, fmt.Errorf("snapshot at %d is older than the state, at %d", r.meta.Index, applied)
		}
		r.opened = r.from
		if r.open != nil {
			opened, err := r.open(r.opened)
			if err != nil {
				return 0, fmt.Errorf("open received snapshot: %w", err)
			}
			r.opened = opened
		}
	}
	return r.opened.Read(p)
}

func (r *receivedReader) Close() error {
	err := r.from.Close()
	r.fsm.restored(&r.meta)
	return err
}

// spoolReader reads a spool and frees what it has read.
type spoolReader struct {
	spool *spool
	at    int // in the first piece
}

func (r *spoolReader) Read(p []byte) (int, error) {
	for {
		if len(r.spool.pieces) == 0 {
			return 0, io.EOF
		}
		piece := r.spool.pieces[0]
		if len(r.spool.pieces) == 1 {
			piece = piece[:r.spool.tail]
		}
		if r.at < len(piece) {
			n := copy(p, piece[r.at:])
			r.at += n
			return n, nil
		}
		r.spool.unmapMem(r.spool.pieces[0])
		r.spool.pieces, r.at = r.spool.pieces[1:], 0
	}
}

func (r *spoolReader) Close() error {
	r.spool.free()
	return nil
}
