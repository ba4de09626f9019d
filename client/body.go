package client

import "io"

// body is a request body that goes to the connection in one Write: through
// io.WriterTo, so that net/http does not copy it through its own buffer.
type body struct{ left []byte }

func newBody(b []byte) *body { return &body{b} }

func (b *body) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// WriteTo writes what is left in one go.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b.left)
	b.left = b.left[n:]
	return int64(n), err
}
