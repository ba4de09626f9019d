package client

import (
	"io"
	"sync"
)

// body is a request body that tells when net/http has let go of it, which may
// be after the answer has come (http.RoundTripper): the caller of a bulk load
// uses the memory again.
type body struct {
	left   []byte
	closed sync.Once
	inUse  *sync.WaitGroup
}

func newBody(b []byte, inUse *sync.WaitGroup) *body {
	inUse.Add(1)
	return &body{left: b, inUse: inUse}
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *body) Close() error {
	b.closed.Do(b.inUse.Done)
	return nil
}
