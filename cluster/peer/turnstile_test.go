package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// stuck is a carrier on which every dial hangs until its context ends.
type stuck struct {
	Carrier
	mu   sync.Mutex
	now  map[string]int
	most map[string]int
}

func (s *stuck) Dial(ctx context.Context, addr string) (net.Conn, error) {
	s.mu.Lock()
	s.now[addr]++
	s.most[addr] = max(s.most[addr], s.now[addr])
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.now[addr]--
	s.mu.Unlock()
	return nil, ctx.Err()
}

func (s *stuck) at(addr string) (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[addr], s.most[addr]
}

// A hundred handshakes at once would all come too late where the processor is
// scarce: a few pass at a time. Those to another address don't wait for them.
func TestDialsToOneAddressQueue(t *testing.T) {
	carrier := &stuck{Carrier: TCP(), now: map[string]int{}, most: map[string]int{}}
	r := newRig(t, nil)
	p := r.start("a", func(cfg *Config) { cfg.Carrier, cfg.Handshake = carrier, time.Minute })
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	for range 100 {
		dialling.Go(func() {
			if _, err := p.dial(ctx, "silent:1", hello{kind: calls}); !errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v", err)
			}
		})
	}
	dialling.Go(func() { p.dial(ctx, "other:1", hello{kind: calls}) })
	deadline := time.After(10 * time.Second)
	for {
		_, other := carrier.at("other:1")
		now, _ := carrier.at("silent:1")
		p.mu.Lock()
		waiting := p.turnstiles["silent:1"] != nil && p.turnstiles["silent:1"].users == 100
		p.mu.Unlock()
		if now == maxDialling && other == 1 && waiting {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("%d dials at work, and %d to the other address", now, other)
		case <-time.NewTimer(time.Millisecond).C:
		}
	}
	cancel()
	dialling.Wait()
	if _, most := carrier.at("silent:1"); most != maxDialling {
		t.Errorf("%d dials at once, want %d", most, maxDialling)
	}
	if n := len(p.turnstiles); n != 0 {
		t.Errorf("%d addresses are remembered that nobody dials", n)
	}
}
