package api

import (
	"io"
	"net"
)

// recordHeader is the length of a TLS record header (RFC 8446, 5.1):
//
//	type 1 | version 2 | length 2
const recordHeader = 5

// records stands below a tls.Conn and wipes what it decrypts. crypto/tls
// decrypts in place, in the buffer it reads records into. When that buffer
// holds a second record, it may be moved, and the old place with the first
// record's plaintext is left to the garbage collector.
//
// So records hands out one record at a time, the header by itself. Then the
// buffer is always used up when the next header is asked for: Read gets all of
// it and clears it before it waits, and no place with plaintext is ever left.
// What was read ahead is ciphertext and stays here.
type records struct {
	net.Conn
	ahead    [8 << 10]byte
	from, to int // what of ahead is not handed out yet
	left     int // bytes of the current record still to hand out

	input []byte // tls's buffer, as seen when it asked for the last header
}

func (c *records) Read(p []byte) (int, error) {
	if c.left == 0 {
		return c.readHeader(p)
	}
	p = p[:min(len(p), c.left)]
	var n int
	var err error
	if c.from < c.to {
		n = copy(p, c.ahead[c.from:c.to])
		c.from += n
	} else {
		n, err = c.Conn.Read(p)
	}
	c.left -= n
	return n, err
}

func (c *records) readHeader(p []byte) (int, error) {
	clear(p)
	c.input = p
	if len(p) < recordHeader {
		return 0, io.ErrShortBuffer // crypto/tls asks with 512 bytes or more
	}
	for c.to-c.from < recordHeader {
		c.to = copy(c.ahead[:], c.ahead[c.from:c.to])
		c.from = 0
		n, err := c.Conn.Read(c.ahead[c.to:])
		c.to += n
		if err != nil {
			if err == io.EOF && c.to > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	n := copy(p[:recordHeader], c.ahead[c.from:])
	c.from += n
	c.left = int(p[3])<<8 | int(p[4])
	return n, nil
}

// wipe clears what the last record left in tls's buffer. Only the goroutine
// that reads may call it, and it must not read on.
func (c *records) wipe() { clear(c.input) }
