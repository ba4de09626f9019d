package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestReadAhead reads in small bites what came in large ones, and finds the
// block wiped and given back whenever it is used up.
func TestReadAhead(t *testing.T) {
	client, server := tcpPair(t)
	s := newSocket(server)
	s.ahead.attach(server)
	if s.ahead.raw == nil {
		t.Skip("not on this system")
	}
	sent := bytes.Repeat([]byte(marker), 3000)
	go func() {
		client.Write(sent)
		client.(*net.TCPConn).CloseWrite()
	}()
	var got []byte
	var block *aheadBlock
	for p := make([]byte, 1000); ; {
		n, err := s.Read(p)
		got = append(got, p[:n]...)
		if s.ahead.block != nil {
			block = s.ahead.block
		} else if block != nil && bytes.Contains(block[:], []byte("Lovelace")) {
			t.Fatal("an empty block holds what went through it")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) || block == nil {
		t.Errorf("read %d bytes, want %d; block %v", len(got), len(sent), block != nil)
	}
}

func TestReadAheadErrors(t *testing.T) {
	client, server := tcpPair(t)
	s := newSocket(server)
	s.ahead.attach(server)
	s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v; want a timeout", err)
	}
	s.SetReadDeadline(time.Time{})
	client.(*net.TCPConn).SetLinger(0)
	client.Close() // resets
	var opErr *net.OpError
	if _, err := s.Read(make([]byte, 10)); !errors.As(err, &opErr) {
		t.Errorf("Read of a reset connection: %v; want an OpError", err)
	}
	server.Close()
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read of a closed connection: %v", err)
	}
}

// TestWipeDropsWhatWasReadAhead leaves half a body unread.
func TestWipeDropsWhatWasReadAhead(t *testing.T) {
	client, server := tcpPair(t)
	c := &conn{socket: newSocket(server), server: new(Server)}
	c.socket.ahead.attach(server)
	c.Conn = c.socket
	client.Write([]byte(depositBody))
	p := make([]byte, 10)
	if _, err := c.Read(p); err != nil {
		t.Fatal(err)
	}
	block := c.socket.ahead.block
	if block == nil {
		t.Skip("nothing was read ahead")
	}
	c.retire()
	if bytes.Contains(block[:], []byte("Lovelace")) || c.socket.ahead.block != nil || bytes.Contains(p, []byte("e")) {
		t.Error("the wiping left something")
	}
}
