package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/hashicorp/memberlist"
)

// A connection begins with one byte: what it is for. For an exchange, all that
// follows is memberlist's. For packets, they follow one after the other, to the
// member that was dialled:
//
//	offset  size  content
//	0       2     length n of the packet, 1 to 8192, big-endian
//	2       n     the packet, memberlist's
const (
	packets = 'p'
	streams = 's'

	maxPacket = 8 << 10 // bytes
)

var errPacket = errors.New("packet of a length that is not allowed")

func appendPacket(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

// readPacket reads the next packet, into memory of its own.
func readPacket(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > maxPacket {
		return nil, errPacket
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// serve takes what comes by a connection that a member opened, and hands it to
// memberlist until one of them has had enough.
func (t *transport) serve(conn net.Conn, from Member) {
	use, err := t.readUse(conn)
	switch {
	case err != nil:
	case use == streams && t.offer(&stream{Conn: conn, left: streamBytes}):
		return // memberlist closes it
	case use == packets:
		stop := context.AfterFunc(t.ctx, func() { conn.Close() })
		defer stop()
		t.receive(conn, from)
	}
	conn.Close()
}

// readUse reads what a connection is for.
func (t *transport) readUse(conn net.Conn) (byte, error) {
	ctx, cancel := context.WithTimeout(t.ctx, streamTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var use [1]byte
	_, err := io.ReadFull(conn, use[:])
	return use[0], err
}

// offer queues an exchange, unless there are too many.
func (t *transport) offer(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	select {
	case t.streams <- conn:
		return true
	default:
		return false
	}
}

// receive hands packets on. One that memberlist has no room for is dropped.
func (t *transport) receive(conn net.Conn, from Member) {
	for {
		b, err := readPacket(conn)
		if err != nil {
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: b, From: virtual(from), Timestamp: t.cfg.Now()}:
		default:
			t.dropped.Add(1)
		}
	}
}
