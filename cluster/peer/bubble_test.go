package peer

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom/cluster/peer/peertest"
)

// The whole port works on fake time, in the year 2000.
func TestWorksInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &peertest.Network{})
		a, b := r.start("a"), r.start("b")
		body := bytes.Repeat([]byte("0123456789"), 100_000)
		got, err := a.Call(t.Context(), "b", 1, body)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatal("echo of", len(got), "bytes:", err)
		}
		locate := func(addr string) (string, string, string, bool) { return "b", b.Addr(), "rb", addr == "vb" }
		sa, _ := a.Stream(StreamConfig{Group: 1, Generation: 1, Replica: "ra", Address: "va", Locate: locate})
		sb, _ := b.Stream(StreamConfig{Group: 1, Generation: 1, Replica: "rb", Address: "vb", Locate: locate})
		out, err := sa.Dial("vb", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		in, err := sb.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go out.Write([]byte("hello")) // ends when it was read
		buf := make([]byte, 9)
		n, err := in.Read(buf)
		if err != nil || string(buf[:n]) != "hello" {
			t.Errorf("got %q, %v", buf[:n], err)
		}
		if in.LocalAddr().String() != "vb" || out.RemoteAddr().String() != "vb" {
			t.Error("addresses are not the virtual ones:", in.LocalAddr(), out.RemoteAddr())
		}
	})
}
