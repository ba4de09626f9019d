//go:build linux

package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo answers every line on a host, until the test ends.
func echo(t *testing.T, h *Host) {
	t.Helper()
	l, err := h.Listen(h.Address(API))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				io.Copy(c, c) //nolint:errcheck // the other side ends it
			}()
		}
	}()
}

// talk sends a line from one host to another and returns what came back.
func talk(from, to *Host, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.Address(API))
	if err != nil {
		return err
	}
	defer c.Close()
	return say(c, patience)
}

func say(c net.Conn, patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && got != "hello\n" {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// silence is what a cut way says: nothing.
func silence(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

func TestHostsReachEachOtherUntilTheyAreCut(t *testing.T) {
	land := NewLand(t)
	a, b, c := land.Host("a"), land.Host("b"), land.Host("c")
	for _, h := range []*Host{a, b, c} {
		echo(t, h)
	}
	const soon = 300 * time.Millisecond
	check := func(what string, from, to *Host, cut bool) {
		t.Helper()
		patience := 5 * time.Second
		if cut {
			patience = soon
		}
		if err := talk(from, to, patience); cut && !silence(err) || !cut && err != nil {
			t.Errorf("%s: %s to %s: %v", what, from.name, to.name, err)
		}
	}
	check("at first", a, b, false)
	check("at first", b, c, false)

	// A connection that stands goes silent, and speaks again when the way is back.
	ctx := t.Context()
	standing, err := a.Dial(ctx, "tcp", b.Address(API))
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()
	land.Cut("a", "b")
	if err := say(standing, soon); !silence(err) {
		t.Error("a standing connection over a cut way:", err)
	}
	check("cut", a, b, true)
	check("cut", b, a, true)
	check("cut", a, c, false)
	check("cut", c, b, false)
	land.Heal("a", "b")
	check("healed", a, b, false)
	if err := standing.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(standing).ReadString('\n'); err != nil || got != "hello\n" {
		t.Errorf("what was sent into the cut: %q, %v", got, err)
	}

	land.CutOneWay("a", "c")
	check("one way", a, c, true)
	check("one way", c, a, true) // the answers are lost
	check("one way", b, c, false)
	land.HealOneWay("a", "c")
	check("healed", c, a, false)
}

func TestAProgramRunsOnItsHost(t *testing.T) {
	land := NewLand(t)
	h := land.Host("a")
	out, err := h.Command(t.Context(), "ip", "-o", "addr", "show", "dev", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), h.IP) {
		t.Errorf("on the host: %v: %s", err, out)
	}
}
