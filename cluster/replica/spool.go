package replica

import (
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

// receivedReader reads a spool once. Closing it after the last byte notes in
// the fsm where the state now stands.
type receivedReader struct {
	spool *spool
	fsm   *fsm
	meta  raft.SnapshotMeta
	at    int // in the first piece
}

func (r *receivedReader) Read(p []byte) (int, error) {
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

func (r *receivedReader) Close() error {
	r.spool.free()
	r.fsm.restored(&r.meta)
	return nil
}
