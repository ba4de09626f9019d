package securemem

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

// testPool is a pool of 64 KiB in ordinary memory; buffers up to 16 KiB.
func testPool() *Pool { return newPool(make([]byte, 64<<10)) }

func mustGet(t testing.TB, p *Pool, n int) *Buffer {
	t.Helper()
	b, err := p.More(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBufferIsZeroedAndSized(t *testing.T) {
	backends(t, func(t *testing.T, m *Memory) {
		for _, n := range []int{0, 1, 4096, 4097, m.Pool().MaxBuffer()} {
			b := mustGet(t, m.Pool(), n)
			whole := b.Bytes()[:cap(b.Bytes())]
			if len(b.Bytes()) != n || len(whole) < n || !bytes.Equal(whole, make([]byte, len(whole))) {
				t.Errorf("buffer of %d bytes has %d, or is not zero", n, len(b.Bytes()))
			}
			for i := range whole {
				whole[i] = 0xff
			}
			b.Release()
			if !bytes.Equal(whole, make([]byte, len(whole))) {
				t.Errorf("Release left something of %d bytes", n)
			}
		}
		if got := m.Pool().Stats(); got.InUse != 0 || got.Total == 0 {
			t.Errorf("stats %+v", got)
		}
		for _, n := range []int{-1, m.Pool().MaxBuffer() + 1} {
			if _, err := m.Pool().Get(t.Context(), n); !errors.Is(err, cloakroom.ErrTooLarge) {
				t.Errorf("buffer of %d bytes: %v", n, err)
			}
		}
	})
}

func TestReleasedBufferIsGone(t *testing.T) {
	b := mustGet(t, testPool(), 10)
	b.Release()
	wantPanic(t, "Bytes after Release", func() { b.Bytes() })
	wantPanic(t, "second Release", b.Release)
}

func TestGrowMovesAndWipes(t *testing.T) {
	p := testPool()
	b := mustGet(t, p, 40)
	copy(b.Bytes(), marker)
	old := b.Bytes()[:cap(b.Bytes())]
	if err := b.Grow(t.Context(), 4000); err != nil || len(b.Bytes()) != 4000 || &b.Bytes()[0] != &old[0] {
		t.Errorf("growing within the class moved the buffer: %v", err)
	}
	if err := b.Grow(t.Context(), 9000); err != nil || len(b.Bytes()) != 9000 {
		t.Fatalf("grow: %v", err)
	}
	if string(b.Bytes()[:len(marker)]) != marker {
		t.Error("content did not move")
	}
	if !bytes.Equal(old, make([]byte, len(old))) {
		t.Error("the old place is not wiped")
	}
	if err := b.Grow(t.Context(), 1<<20); !errors.Is(err, cloakroom.ErrTooLarge) || len(b.Bytes()) != 9000 {
		t.Errorf("grow beyond the largest buffer: %v, %d bytes", err, len(b.Bytes()))
	}
	b.Release()
	if got := p.Stats().InUse; got != 0 {
		t.Errorf("%d bytes in use", got)
	}
}

// TestDeadlineIsOverloaded: a request waits for its share up to its deadline.
func TestDeadlineIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool()
		var held []*Buffer
		for range 4 {
			held = append(held, mustGet(t, p, 16<<10))
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := p.More(ctx, 1)
		if !errors.Is(err, cloakroom.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %v", waited)
		}
		if got := p.Stats(); got.Waiting != 0 || got.Refused != 1 {
			t.Errorf("stats %+v", got)
		}
		held[0].Release()
		mustGet(t, p, 16<<10).Release()
	})
}

// TestFirstComeFirstServed: a large request in line is not overtaken, and one
// that gives up lets the next pass at once.
func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool()
		var held []*Buffer
		for range 16 {
			held = append(held, mustGet(t, p, 4<<10))
		}
		var mu sync.Mutex
		var order []string
		get := func(ctx context.Context, name string, n int) {
			b, err := p.More(ctx, n)
			if err != nil {
				name += " gave up"
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			if b != nil {
				defer b.Release()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go get(ctx, "large", 16<<10)
		synctest.Wait()
		go get(t.Context(), "small", 4<<10)
		synctest.Wait()
		held[0].Release()
		synctest.Wait()
		if len(order) != 0 || p.Stats().Waiting != 2 {
			t.Fatalf("served %v out of turn, %d wait", order, p.Stats().Waiting)
		}
		cancel()
		synctest.Wait()
		if len(order) != 2 {
			t.Fatalf("served %v", order)
		}
		for _, b := range held[1:] {
			b.Release()
		}
		if got := p.Stats(); got.InUse != 0 || got.Waiting != 0 {
			t.Errorf("stats %+v", got)
		}
	})
}

func TestLineIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool()
		for range 4 {
			mustGet(t, p, 16<<10)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiters {
			go func() { _, _ = p.More(ctx, 1) }()
		}
		synctest.Wait()
		if _, err := p.More(ctx, 1); !errors.Is(err, cloakroom.ErrOverloaded) {
			t.Errorf("got %v", err)
		}
		cancel()
		synctest.Wait()
		if got := p.Stats(); got.Waiting != 0 || got.Refused != maxWaiters+1 {
			t.Errorf("stats %+v", got)
		}
	})
}

func TestCloseSendsWaitersAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool()
		for range 4 {
			mustGet(t, p, 16<<10)
		}
		var err error
		go func() { _, err = p.More(t.Context(), 1) }()
		synctest.Wait()
		p.close()
		synctest.Wait()
		if !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := p.More(t.Context(), 1); !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestPoolUnderLoad lets more requests than fit fill their buffers and look
// for traces of each other.
func TestPoolUnderLoad(t *testing.T) {
	p := testPool()
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for range 300 {
				b := mustGet(t, p, 1+rand.IntN(16<<10))
				for _, c := range b.Bytes() {
					if c != 0 {
						t.Error("a buffer is not zero")
						break
					}
				}
				for i := range b.Bytes() {
					b.Bytes()[i] = byte(worker + 1)
				}
				if bytes.Count(b.Bytes(), []byte{byte(worker + 1)}) != len(b.Bytes()) {
					t.Error("two requests share a buffer")
				}
				b.Release()
			}
		})
	}
	wait.Wait()
	if got := p.Stats(); got.InUse != 0 || got.Waiting != 0 || got.Refused != 0 {
		t.Errorf("stats %+v", got)
	}
}
