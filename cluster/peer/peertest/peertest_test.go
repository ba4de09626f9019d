package peertest

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloakroom/cluster/cert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns both ends of a connection through n.
func connect(t *testing.T, n *Network) (near, far net.Conn) {
	t.Helper()
	l, err := n.Listen("far:1")
	if err != nil {
		t.Fatal(err)
	}
	if near, err = n.Dial(t.Context(), "far:1"); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	return near, far
}

func TestBytesArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := connect(t, &Network{Window: 100})
		sent := bytes.Repeat([]byte("0123456789"), 1000)
		var writing sync.WaitGroup
		writing.Go(func() {
			if n, err := near.Write(sent); n != len(sent) || err != nil {
				t.Error(n, err)
			}
			near.Close()
		})
		got, err := io.ReadAll(far)
		writing.Wait()
		if err != nil || !bytes.Equal(got, sent) {
			t.Error(len(got), "bytes,", err)
		}
		if near.RemoteAddr().String() != "far:1" || far.LocalAddr().String() != "far:1" || near.LocalAddr().String() != far.RemoteAddr().String() {
			t.Error(near.RemoteAddr(), far.LocalAddr(), near.LocalAddr(), far.RemoteAddr())
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := connect(t, &Network{Window: 10})
		took := func(want time.Duration, do func() error) {
			t.Helper()
			from := time.Now()
			if err := do(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) != want {
				t.Errorf("%v after %v, want %v", err, time.Since(from), want)
			}
		}
		read := func() error { _, err := near.Read(make([]byte, 1)); return err }
		write := func() error { _, err := near.Write(make([]byte, 20)); return err }
		near.SetReadDeadline(time.Now().Add(time.Second))
		took(time.Second, read)
		took(0, read)
		near.SetDeadline(time.Now().Add(2 * time.Second))
		took(2*time.Second, write)
		took(0, read)
		near.SetDeadline(time.Time{})
		// Moved while somebody waits, first on, then back.
		near.SetReadDeadline(time.Now().Add(time.Second))
		go func() { // ends by itself
			near.SetReadDeadline(time.Now().Add(time.Minute))
			<-time.NewTimer(2 * time.Second).C
			near.SetReadDeadline(time.Now())
		}()
		took(2*time.Second, read)
		near.SetDeadline(time.Time{})
		io.ReadFull(far, make([]byte, 10))
		if n, err := near.Write([]byte("again")); n != 5 || err != nil {
			t.Error("after a deadline was lifted:", n, err)
		}
	})
}

func TestCloseWakesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closeNear := range []bool{true, false} {
			near, far := connect(t, &Network{Window: 10})
			far.Write([]byte("rest"))
			var read, write error
			var waiting sync.WaitGroup
			waiting.Go(func() {
				io.ReadFull(near, make([]byte, 4))
				_, read = near.Read(make([]byte, 1))
			})
			waiting.Go(func() { _, write = near.Write(make([]byte, 20)) })
			synctest.Wait()
			wantRead, wantWrite := net.ErrClosed, net.ErrClosed
			if closeNear {
				near.Close()
			} else {
				far.Close()
				wantRead, wantWrite = io.EOF, syscall.EPIPE
			}
			waiting.Wait()
			if !errors.Is(read, wantRead) || !errors.Is(write, wantWrite) {
				t.Errorf("read: %v, write: %v", read, write)
			}
		}
	})
}

func TestAddresses(t *testing.T) {
	n := &Network{}
	if _, err := n.Dial(t.Context(), "a:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("nobody listens:", err)
	}
	l, err := n.Listen("a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("a:1"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error("taken twice:", err)
	}
	waiting, err := n.Dial(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error("closed twice:", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("accepts:", err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err != io.EOF {
		t.Error("not accepted, not closed:", err)
	}
	if _, err := n.Listen("a:1"); err != nil {
		t.Error("free again:", err)
	}
}

func TestCertificatesAreValidWhenever(t *testing.T) {
	ca := NewCA(t, [16]byte{1})
	c := ca.Node("n1")
	if node, err := cert.NodeOf(c.Leaf, [16]byte{1}); node != "n1" || err != nil {
		t.Error(node, err)
	}
	for _, year := range []int{2000, 2026, 2100} {
		at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: ca.Roots(), CurrentTime: at}); err != nil {
			t.Error(year, err)
		}
	}
}
