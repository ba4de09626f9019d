package api

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// aheadBytes is how much one system call reads: a request of some hundred ids
// with its header. net/http alone would ask for 4 KiB, and again for the rest.
const aheadBytes = 16 << 10

type aheadBlock [aheadBytes]byte

// aheadBlocks holds wiped blocks. A connection has one only from the moment
// bytes came until they are handed on, never while it waits.
var aheadBlocks = sync.Pool{New: func() any { return new(aheadBlock) }}

// ahead reads a connection in large bites. It is of the goroutine that reads.
type ahead struct {
	raw   syscall.RawConn // nil: not that kind of connection, read it plainly
	pull  func(fd uintptr) bool
	block *aheadBlock // what came and did not fit, in block[from:to]
	from  int
	to    int

	into []byte // of the Read under way
	n    int
	err  error
}

// attach prepares to read c; without that, or where the system is not known,
// reads are plain.
func (a *ahead) attach(c net.Conn) {
	system, ok := c.(syscall.Conn)
	if !ok || !canPull {
		return
	}
	if raw, err := system.SyscallConn(); err == nil {
		a.raw = raw
		a.pull = a.once
	}
}

// read fills p from the block, or from c.
func (a *ahead) read(c net.Conn, p []byte) (int, error) {
	if a.block != nil {
		return a.take(p), nil
	}
	if a.raw == nil || len(p) == 0 || len(p) >= aheadBytes {
		return c.Read(p)
	}
	a.into, a.n, a.err = p, 0, nil
	err := a.raw.Read(a.pull)
	a.into = nil
	switch {
	case err != nil:
		return 0, err
	case a.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", a.err)}
	case a.n == 0:
		return 0, io.EOF
	}
	return a.n, nil
}

// once reads once, without waiting; false means that nothing was there.
func (a *ahead) once(fd uintptr) bool {
	block := aheadBlocks.Get().(*aheadBlock)
	n, again, err := pull(fd, block[:])
	if n <= 0 {
		aheadBlocks.Put(block)
		if again {
			return false
		}
		a.err = err
		return true
	}
	a.block, a.from, a.to = block, 0, n
	a.n = a.take(a.into)
	return true
}

// take hands on what the block holds, and wipes it when it is empty.
func (a *ahead) take(p []byte) int {
	n := copy(p, a.block[a.from:a.to])
	if a.from += n; a.from == a.to {
		a.drop()
	}
	return n
}

// drop wipes the block and gives it back.
func (a *ahead) drop() {
	if a.block == nil {
		return
	}
	clear(a.block[:a.to])
	aheadBlocks.Put(a.block)
	a.block = nil
}
