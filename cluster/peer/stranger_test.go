package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom/cluster/cert"
	"cloakroom/cluster/peer/peertest"
)

// welcoming has a node answer strangers.
func (r *rig) welcoming(answer func(ctx context.Context, from string, request []byte) []byte) func(*Config) {
	return func(cfg *Config) {
		cfg.Certificate.Certificate = append(cfg.Certificate.Certificate, r.ca.Root.Raw)
		cfg.Welcome = answer
	}
}

func (r *rig) knock(addr string) Knock {
	return Knock{Addr: addr, Pin: KeyOf(r.ca.Root), Carrier: r.carrier, Now: time.Now}
}

func TestAStrangerIsAnswered(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.start("b", r.welcoming(func(_ context.Context, _ string, request []byte) []byte {
			return append([]byte("hello "), request...)
		}))
		for _, question := range []string{"", "x", strings.Repeat("q", MaxKnock-headBytes-6)} {
			answer, root, err := r.knock("b:1").Ask(t.Context(), []byte(question))
			if err != nil || string(answer) != "hello "+question {
				t.Errorf("%d bytes: got %d, %v", len(question), len(answer), err)
			}
			if root == nil || !root.Equal(r.ca.Root) {
				t.Error("another root, or none")
			}
		}
		if _, _, err := r.knock("b:1").Ask(t.Context(), make([]byte, MaxKnock)); err == nil {
			t.Error("asked too much")
		}
		wellFor(t, a, "b")
		synctest.Wait()
		after(5 * time.Second)
		if n := len(a.Stats().Refused); n != 0 {
			t.Error(a.Stats().Refused)
		}
	})
}

// Whoever is not of the cluster that the pin names learns nothing.
func TestAStrangerTellsNobodyElse(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		var heard atomic.Int32
		count := func(context.Context, string, []byte) []byte {
			heard.Add(1)
			return nil
		}
		r.start("b", r.welcoming(count))
		r.start("bare", func(cfg *Config) { cfg.Welcome = count }) // shows no root
		strange := peertest.NewCA(t, testCluster)
		r.start("shown", func(cfg *Config) { // shows the root, and is not signed by it
			cfg.Certificate = strange.Node("shown")
			cfg.Certificate.Certificate = append(cfg.Certificate.Certificate, r.ca.Root.Raw)
			cfg.Welcome = count
		})
		for name, k := range map[string]Knock{
			"another pin":   {Addr: "b:1", Pin: KeyOf(strange.Root)},
			"no pin":        {Addr: "b:1"},
			"its leaf's":    {Addr: "b:1", Pin: KeyOf(r.ca.Node("b").Leaf)},
			"no root shown": {Addr: "bare:1", Pin: KeyOf(r.ca.Root)},
			"forged":        {Addr: "shown:1", Pin: KeyOf(r.ca.Root)},
			"expired":       {Addr: "b:1", Pin: KeyOf(r.ca.Root), Now: func() time.Time { return time.Now().AddDate(300, 0, 0) }},
			"nobody":        {Addr: "c:1", Pin: KeyOf(r.ca.Root)},
		} {
			k.Carrier = r.carrier
			if k.Now == nil {
				k.Now = time.Now
			}
			_, _, err := k.Ask(t.Context(), []byte("secret"))
			if pin := errors.Is(err, ErrPin); err == nil || pin != (name != "forged" && name != "expired" && name != "nobody") || !pin && !errors.Is(err, ErrUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if heard.Load() != 0 {
			t.Error("the question was put to the wrong one")
		}
	})
}

// What has no certificate gets one question, and nothing that nodes get.
func TestHostileStrangers(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		var heard atomic.Int32
		b := r.start("b", r.welcoming(func(context.Context, string, []byte) []byte {
			heard.Add(1)
			return []byte("answer")
		}))
		stranger := func(protocols ...string) *tls.Conn {
			cfg := &tls.Config{RootCAs: r.ca.Roots(), ServerName: cert.ServerName, NextProtos: protocols}
			return tls.Client(r.raw("b:1"), cfg)
		}
		head := func(magic string, format, what byte, size int) string {
			return magic + string([]byte{format, what, byte(size >> 8), byte(size)})
		}
		h := sampleHellos()["calls"]
		for name, said := range map[string]string{
			"a hello":         string(h.append(nil)),
			"HTTP":            "GET / HTTP/1.1\r\n\r\n",
			"another format":  head("CRjq", 2, 0, 0),
			"another kind":    head("CRjq", 1, 1, 0),
			"an answer":       head("CRja", 1, 0, 0),
			"a length beyond": head("CRjq", 1, 0, MaxKnock),
		} {
			conn := stranger(joinProtocol)
			conn.Write([]byte(said))
			if took := hungUp(t, conn); took != 0 {
				t.Errorf("%s: cut after %v", name, took)
			}
		}
		for name, say := range map[string]func(){
			"silence": func() { stranger(joinProtocol).Handshake() },
			"half":    func() { stranger(joinProtocol).Write([]byte(head("CRjq", 1, 0, 100) + "x")) },
		} {
			before := b.Stats().Refused["handshake too slow"]
			say()
			after(2*time.Second + time.Millisecond)
			synctest.Wait()
			if got := b.Stats().Refused["handshake too slow"]; got != before+1 {
				t.Errorf("%s: %v", name, b.Stats().Refused)
			}
		}
		// The join protocol beside another does not open the other.
		conn := stranger(calls.protocol(), joinProtocol)
		conn.Handshake()
		if got := conn.ConnectionState().NegotiatedProtocol; got != joinProtocol {
			t.Errorf("a stranger got %q", got)
		}
		conn.Close()
		if conn = stranger(calls.protocol()); conn.Handshake() == nil {
			hungUp(t, conn)
		}
		if heard.Load() != 0 {
			t.Error("garbage was answered", heard.Load(), "times")
		}
		wellFor(t, a, "b")
	})
}

// Strangers that are being answered are few, and those beyond are told so.
func TestManyStrangersAtOnce(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		open := make(chan struct{})
		r.start("b", r.welcoming(func(ctx context.Context, _ string, _ []byte) []byte {
			select {
			case <-open:
			case <-ctx.Done():
			}
			return []byte("in")
		}))
		ends := make(chan error, maxStrangers+5)
		for range maxStrangers + 5 {
			go func() { // ends with its answer
				_, _, err := r.knock("b:1").Ask(context.Background(), []byte("q"))
				ends <- err
			}()
		}
		for range 5 {
			if err := <-ends; !errors.Is(err, ErrBusy) {
				t.Error("one too many:", err)
			}
		}
		wellFor(t, a, "b")
		close(open)
		for range maxStrangers {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		after(5 * time.Second)
	})
}

// A question that nobody answers in time, and an answer that is too long.
func TestAStrangerWaitsOnlySoLong(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		b := r.start("b", r.welcoming(func(ctx context.Context, _ string, request []byte) []byte {
			if string(request) == "long" {
				return make([]byte, MaxKnock)
			}
			<-ctx.Done()
			return []byte("late")
		}))
		from := time.Now()
		answer, _, err := r.knock("b:1").Ask(t.Context(), []byte("slow"))
		if took := time.Since(from); err != nil || string(answer) != "late" || took != maxWelcome {
			t.Errorf("got %q, %v after %v", answer, err, took)
		}
		if _, _, err := r.knock("b:1").Ask(t.Context(), []byte("long")); err == nil {
			t.Error("an answer too long came")
		}
		done := make(chan error, 1)
		go func() { // ends with the port
			_, _, err := r.knock("b:1").Ask(context.Background(), []byte("slow"))
			done <- err
		}()
		synctest.Wait()
		b.Close()
		if err := <-done; err == nil {
			t.Error("an answer from a closed port")
		}
	})
}

// Over a certificate's end: the few methods that may, for the pinned key.
func TestACertificatePastItsEnd(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		now := time.Now()
		pins := map[string][32]byte{}
		over := func(cfg *Config) {
			cfg.Certificate = r.ca.Issue(cert.Request{Node: cfg.Node, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)})
		}
		pin := func(cfg *Config) {
			pins[cfg.Node] = KeyOf(cfg.Certificate.Leaf)
			cfg.Pin = func(node string) ([32]byte, bool) {
				key, ok := pins[node]
				return key, ok
			}
			cfg.Guests, cfg.LateMethods = []uint8{7, 8}, []uint8{7}
		}
		a := r.start("a", pin)
		late := r.start("late", over, pin)
		if _, _, err := late.CallAt(t.Context(), "a:1", 7, nil); !errors.Is(err, ErrTLS) || !errors.Is(err, ErrRefused) {
			t.Error("an expired certificate, the usual way:", err)
		}
		body, who, err := late.CallLate(t.Context(), "a:1", 7, []byte("renew"))
		if err != nil || string(body) != "renew" || who.Node != "a" {
			t.Errorf("got %q, %v from %+v", body, err, who)
		}
		if _, _, err := late.CallLate(t.Context(), "a:1", 8, nil); err == nil || errors.Is(err, ErrUnreachable) {
			t.Error("a method that is not for the late:", err)
		}
		if _, _, err := a.CallLate(t.Context(), "late:1", 7, nil); err != nil {
			t.Error("to one whose certificate is over:", err)
		}
		if _, err := a.Call(t.Context(), "late", 7, nil); !errors.Is(err, ErrTLS) {
			t.Error("to one whose certificate is over, the usual way:", err)
		}
		kept := pins["late"]
		for name, key := range map[string]*[32]byte{"another key": {1}, "no key": nil} {
			if delete(pins, "late"); key != nil {
				pins["late"] = *key
			}
			if _, _, err := late.CallLate(t.Context(), "a:1", 7, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("%s registered for the caller: %v", name, err)
			}
			if _, _, err := a.CallLate(t.Context(), "late:1", 7, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("%s registered for the called: %v", name, err)
			}
		}
		pins["late"] = kept
		for name, change := range map[string]func(*Config){
			"another CA": func(cfg *Config) { cfg.Certificate = peertest.NewCA(t, testCluster).Node(cfg.Node) },
			"not yet valid": func(cfg *Config) {
				cfg.Certificate = r.ca.Issue(cert.Request{Node: cfg.Node, NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)})
			},
		} {
			x := r.start("x"+fmt.Sprint(len(name)), change, pin)
			if _, _, err := x.CallLate(t.Context(), "a:1", 7, nil); !errors.Is(err, ErrTLS) {
				t.Errorf("%s: %v", name, err)
			}
		}
		unpinned := r.start("u")
		if _, _, err := unpinned.CallLate(t.Context(), "a:1", 7, nil); !errors.Is(err, ErrUnreachable) {
			t.Error("who knows no pins:", err)
		}
	})
}

// A node is known by its TLS key, on either side, and at once when that changes.
func TestKeysArePinned(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		var pinned atomic.Pointer[[32]byte]
		a := r.start("a", func(cfg *Config) {
			cfg.Pin = func(node string) (key [32]byte, ok bool) {
				if p := pinned.Load(); p != nil && node == "b" {
					return *p, true
				}
				return key, false
			}
			cfg.Guests = []uint8{1}
		})
		b := r.start("b")
		wellFor(t, a, "b")
		wellFor(t, b, "a")
		pinned.Store(&[32]byte{1})
		a.Review()
		synctest.Wait() // until b has heard that it was cut off
		if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrRefused) || !contains(err, "another TLS key") {
			t.Error("dialled:", err)
		}
		if _, err := b.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrRefused) || !contains(err, "another TLS key") {
			t.Error("dialling:", err)
		}
		if _, _, err := b.CallAt(t.Context(), "a:1", 1, nil); !errors.Is(err, ErrRefused) {
			t.Error("as a guest:", err)
		}
		right := KeyOf(b.cfg.Certificate.Leaf)
		pinned.Store(&right)
		after(2 * dialPause)
		wellFor(t, a, "b")
		wellFor(t, b, "a")
	})
}

// A new certificate is for handshakes to come; what is open stays open.
func TestACertificateIsReplaced(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		now := time.Now()
		short := func(cfg *Config) {
			cfg.Certificate = r.ca.Issue(cert.Request{Node: cfg.Node, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
		}
		a, b := r.start("a", short), r.start("b", r.welcoming(func(context.Context, string, []byte) []byte { return nil }))
		wellFor(t, a, "b")
		wellFor(t, b, "a")
		out, in := a.way("b"), b.way("a")
		after(2 * time.Hour)
		c := r.start("c")
		if _, err := c.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrTLS) {
			t.Fatal("the certificate is not over:", err)
		}
		if err := a.Trust(r.ca.Node("a"), r.ca.Roots()); err != nil {
			t.Fatal(err)
		}
		after(2 * dialPause)
		wellFor(t, c, "a")
		wellFor(t, a, "c")
		if wellFor(t, a, "b"); a.way("b") != out {
			t.Error("a connection was dropped")
		}
		if wellFor(t, b, "a"); b.way("a") != in {
			t.Error("a connection was dropped")
		}
		other := peertest.NewCA(t, testCluster)
		for name, err := range map[string]error{
			"another node's": a.Trust(r.ca.Node("b"), r.ca.Roots()),
			"none":           a.Trust(tls.Certificate{}, r.ca.Roots()),
			"no roots":       a.Trust(r.ca.Node("a"), nil),
			"garbage":        a.Trust(tls.Certificate{Certificate: [][]byte{{1}}}, r.ca.Roots()),
		} {
			if err == nil {
				t.Errorf("%s was taken", name)
			}
		}
		wellFor(t, a, "c")
		if err := a.Trust(r.ca.Node("a"), other.Roots()); err != nil {
			t.Fatal(err)
		}
		d := r.start("d")
		if _, err := d.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrTLS) {
			t.Error("a root that is not trusted any more:", err)
		}
	})
}
