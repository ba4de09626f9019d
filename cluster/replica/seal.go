package replica

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// SnapshotInfo says what a snapshot is of.
type SnapshotInfo struct {
	Group       string
	Generation  uint32
	Index, Term uint64 // of the last entry in it
	View        View   // what is sealed; nil when opening
	Payload     int64  // bytes that View writes; 0 when opening
}

// sealedView is a view on its way to another replica.
type sealedView struct {
	view View
	seal func(io.Writer, SnapshotInfo) (io.WriteCloser, error) // nil: plain
	info SnapshotInfo
}

// size returns how many bytes writeTo will write. sized gives the length of
// what is sealed from the length of what it holds; without it, it is sealed
// once to nowhere.
func (s *sealedView) size(sized func(int64) int64) (int64, error) {
	n, err := s.view.WriteTo(io.Discard)
	if err != nil || s.seal == nil {
		return n, err
	}
	s.info.Payload = n
	if sized != nil {
		return sized(n), nil
	}
	var count counter
	err = s.writeTo(&count)
	return int64(count), err
}

func (s *sealedView) writeTo(w io.Writer) error {
	if s.seal == nil {
		_, err := s.view.WriteTo(w)
		return err
	}
	sealed, err := s.seal(w, s.info)
	if err != nil {
		return fmt.Errorf("seal snapshot: %w", err)
	}
	if _, err := s.view.WriteTo(sealed); err != nil {
		return fmt.Errorf("seal snapshot: %w", err)
	}
	return sealed.Close()
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// errSnapshotSize stops a snapshot whose length is not what was announced: its
// receiver would take a part for the whole.
var errSnapshotSize = errors.New("snapshot is not as long as announced")

// exactWriter lets through as many bytes as were announced.
type exactWriter struct {
	w    io.Writer
	left int64
}

func (e *exactWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, errSnapshotSize
	}
	n, err := e.w.Write(p)
	e.left -= int64(n)
	return n, err
}

// done reports what is missing at the end.
func (e *exactWriter) done() error {
	if e.left != 0 {
		return errSnapshotSize
	}
	return nil
}

// streamView has write send view into a pipe and returns the end to read from.
// Closing that end stops the writer, waits for it and releases the view.
func streamView(view View, write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	stream := &viewReader{PipeReader: r, view: view, done: make(chan struct{})}
	go func() { // stopped by viewReader.Close
		defer close(stream.done)
		w.CloseWithError(write(w))
	}()
	return stream
}

// viewReader is the reading end of a view's stream.
type viewReader struct {
	*io.PipeReader
	view View
	done chan struct{}
	once sync.Once
}

func (v *viewReader) Close() error {
	v.once.Do(func() {
		v.PipeReader.Close()
		<-v.done
		v.view.Release()
	})
	return nil
}
