package simnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a network of two hosts, a and b, and a connection between them.
type pair struct {
	*Net
	a, b     *Host
	ca, cb   net.Conn
	listener net.Listener
}

// join runs f in a bubble with a connection from a to b.
func join(t *testing.T, cfg Config, f func(t *testing.T, p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := &pair{Net: n, a: start(t, n, "a"), b: start(t, n, "b")}
		if p.listener, err = p.b.Listen("b:7000"); err != nil {
			t.Fatal(err)
		}
		if p.ca, err = p.a.Dial(t.Context(), "b:7000"); err != nil {
			t.Fatal(err)
		}
		if p.cb, err = p.listener.Accept(); err != nil {
			t.Fatal(err)
		}
		f(t, p)
	})
}

func start(t *testing.T, n *Net, name string) *Host {
	t.Helper()
	h, err := n.Start(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// take reads exactly len(want) bytes and checks them.
func take(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func give(t *testing.T, c net.Conn, p string) {
	t.Helper()
	if _, err := c.Write([]byte(p)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// silence checks that nothing can be read for d.
func silence(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(d))
	defer c.SetReadDeadline(time.Time{})
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
}

// ends checks that reading ends with want.
func ends(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("read %d bytes, %v; want %v", n, err, want)
	}
}

func TestBytesTravelInOrderAndTakeTime(t *testing.T) {
	join(t, Config{Seed: 1, Delay: Delay{Base: time.Second, Jitter: time.Second}}, func(t *testing.T, p *pair) {
		begin := time.Now()
		for i := range 50 {
			give(t, p.ca, fmt.Sprintf("%02d", i))
		}
		for i := range 50 {
			take(t, p.cb, fmt.Sprintf("%02d", i))
		}
		if d := time.Since(begin); d < time.Second || d > 2*time.Second {
			t.Errorf("fifty writes took %v", d)
		}
		p.ca.Close()
		ends(t, p.cb, io.EOF)
		ends(t, p.cb, io.EOF)
		ends(t, p.ca, net.ErrClosed)
	})
}

// moments returns when ten bytes arrive on each of two connections.
func moments(t *testing.T, seed uint64) (out []time.Duration) {
	join(t, Config{Seed: seed}, func(t *testing.T, p *pair) {
		begin := time.Now()
		for range 10 {
			give(t, p.ca, "x")
			take(t, p.cb, "x")
			out = append(out, time.Since(begin))
		}
	})
	return out
}

func TestDelaysFollowTheSeed(t *testing.T) {
	a, b, other := fmt.Sprint(moments(t, 7)), fmt.Sprint(moments(t, 7)), fmt.Sprint(moments(t, 8))
	if a != b || a == other {
		t.Errorf("seed 7: %s\nagain:  %s\nseed 8: %s", a, b, other)
	}
}

func TestDeadlines(t *testing.T) {
	join(t, Config{Window: 4}, func(t *testing.T, p *pair) {
		silence(t, p.ca, time.Hour)
		p.ca.SetWriteDeadline(time.Now().Add(time.Minute))
		begin := time.Now()
		if n, err := p.ca.Write(make([]byte, 9)); n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write into a full window: %d, %v", n, err)
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("took %v", d)
		}
		// A deadline set while somebody waits counts for him.
		go func() {
			<-time.After(time.Minute)
			p.ca.SetReadDeadline(time.Now())
		}()
		ends(t, p.ca, os.ErrDeadlineExceeded)
		var timeout net.Error
		if _, err := p.ca.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("not a timeout: %v", err)
		}
	})
}

func TestAFullWindowWaitsForTheReader(t *testing.T) {
	join(t, Config{Window: 8}, func(t *testing.T, p *pair) {
		done := make(chan error, 1)
		go func() {
			_, err := p.ca.Write([]byte("0123456789abcdef!"))
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("write did not wait: %v", err)
		default:
		}
		take(t, p.cb, "0123456789abcdef!")
		if err := <-done; err != nil {
			t.Error(err)
		}
		// Who goes away lets nobody hang.
		go func() {
			_, err := p.ca.Write(make([]byte, 100))
			done <- err
		}()
		synctest.Wait()
		p.cb.Close()
		if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write to who closed: %v", err)
		}
	})
}

func TestOneWayCutHoldsAndReleases(t *testing.T) {
	join(t, Config{}, func(t *testing.T, p *pair) {
		p.SetCut("b", "a", Hold)
		give(t, p.ca, "question")
		take(t, p.cb, "question")
		give(t, p.cb, "answer")
		silence(t, p.ca, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.a.Dial(ctx, "b:7000"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a cut: %v", err)
		}
		p.SetCut("b", "a", Open)
		take(t, p.ca, "answer")
	})
}

func TestSwallowedBytesEndAConnection(t *testing.T) {
	join(t, Config{Window: 8}, func(t *testing.T, p *pair) {
		p.SetCut("a", "b", Swallow)
		p.Heal() // nothing was lost meanwhile
		give(t, p.ca, "one")
		take(t, p.cb, "one")
		give(t, p.ca, "two") // on its way
		p.SetCut("a", "b", Swallow)
		p.Heal()
		give(t, p.ca, "three")
		silence(t, p.cb, time.Hour)
		give(t, p.cb, "back") // the other direction lives
		take(t, p.ca, "back")
		p.ca.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := p.ca.Write([]byte("more")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write beyond the window: %v", err)
		}
	})
}

func TestCrashWithResets(t *testing.T) {
	join(t, Config{}, func(t *testing.T, p *pair) {
		p.b.Crash(Reset)
		ends(t, p.ca, syscall.ECONNRESET)
		ends(t, p.cb, net.ErrClosed)
		if _, err := p.listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after the crash: %v", err)
		}
		if _, err := p.a.Dial(t.Context(), "b:7000"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial a dead process: %v", err)
		}
		if _, err := p.b.Dial(t.Context(), "a:7000"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial by a dead process: %v", err)
		}
		if _, err := p.b.Listen("b:1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen by a dead process: %v", err)
		}
	})
}

func TestSilentCrashIsNoticedWhenTheNextLifeAnswers(t *testing.T) {
	join(t, Config{}, func(t *testing.T, p *pair) {
		p.b.Crash(Silent)
		give(t, p.ca, "anybody?")
		silence(t, p.ca, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.a.Dial(ctx, "b:7000"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial a dead machine: %v", err)
		}
		next := start(t, p.Net, "b")
		if _, err := next.Listen("b:7000"); err != nil {
			t.Fatal(err)
		}
		silence(t, p.ca, time.Hour)
		give(t, p.ca, "anybody?")
		ends(t, p.ca, syscall.ECONNRESET)
		if _, err := p.a.Dial(t.Context(), "b:7000"); err != nil {
			t.Errorf("dial the next life: %v", err)
		}
	})
}

func TestPause(t *testing.T) {
	join(t, Config{}, func(t *testing.T, p *pair) {
		p.Pause("b")
		give(t, p.ca, "hello")
		silence(t, p.cb, time.Hour)
		give(t, p.cb, "held")
		silence(t, p.ca, time.Hour)
		if _, err := p.a.Dial(t.Context(), "b:7000"); err != nil {
			t.Errorf("dial: %v; the kernel of a paused process answers", err)
		}
		p.Resume("b")
		take(t, p.cb, "hello")
		take(t, p.ca, "held")
	})
}

func TestBreakAndLoss(t *testing.T) {
	join(t, Config{Seed: 3}, func(t *testing.T, p *pair) {
		p.Break("a", "b")
		ends(t, p.ca, syscall.ECONNRESET)
		ends(t, p.cb, syscall.ECONNRESET)
		p.SetLoss("a", "b", 1)
		resets, silences := 0, 0
		for range 20 {
			c, err := p.a.Dial(t.Context(), "b:7000")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				resets++
				continue
			}
			silences++
			silence(t, c, time.Second)
		}
		if resets == 0 || silences == 0 || p.Stats().Broken != 20 {
			t.Errorf("%d resets, %d silences, %+v", resets, silences, p.Stats())
		}
	})
}

func TestCanaryIsSeenAcrossWrites(t *testing.T) {
	join(t, Config{Canary: []byte("canary")}, func(t *testing.T, p *pair) {
		for _, s := range []string{"cana", "r", "i", "can", "nary", "ycanar"} {
			give(t, p.ca, s)
		}
		if leaks := p.Leaks(); len(leaks) != 0 {
			t.Errorf("seen before it came: %v", leaks)
		}
		for _, s := range []string{"c", "a", "nar"} {
			give(t, p.cb, s)
		}
		give(t, p.ca, "y")
		if leaks := p.Leaks(); len(leaks) != 1 || leaks[0] != "a to b" {
			t.Errorf("leaks: %v", leaks)
		}
		give(t, p.cb, "y and a canary")
		if leaks := p.Leaks(); len(leaks) != 2 {
			t.Errorf("leaks: %v", leaks)
		}
	})
}

// certificate returns one that names b, valid in the bubble's year.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"b"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pool
}

func TestTLSOverIt(t *testing.T) {
	join(t, Config{Window: 1 << 10, Canary: []byte("plain")}, func(t *testing.T, p *pair) {
		cert, pool := certificate(t)
		server := tls.Server(p.cb, &tls.Config{Certificates: []tls.Certificate{cert}})
		client := tls.Client(p.ca, &tls.Config{RootCAs: pool, ServerName: "b"})
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(server, server)
			server.Close()
			done <- err
		}()
		// By itself, or reader and writer would meet at the handshake's mutex,
		// and who waits for a mutex keeps the bubble's clock from moving.
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 100<<10) // many windows
		copy(message, "plain")
		go client.Write(message)
		take(t, client, string(message))
		client.CloseWrite()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("end of the echo: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if leaks := p.Leaks(); len(leaks) != 0 {
			t.Errorf("plaintext crossed: %v", leaks)
		}
	})
}
