package securemem

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestRequestsDoNotWaitForEachOthersFirstBuffer: many requests take a large
// first buffer and then want another. Without room kept for second buffers
// they would all hold their first one and wait.
func TestRequestsDoNotWaitForEachOthersFirstBuffer(t *testing.T) {
	p := newPool(make([]byte, 2<<20))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	size := p.MaxBuffer()
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			first, err := p.Get(ctx, size)
			if err != nil {
				t.Errorf("first buffer: %v", err)
				return
			}
			defer first.Release()
			second, err := p.More(ctx, size)
			if err != nil {
				t.Errorf("second buffer: %v", err)
				return
			}
			second.Release()
		})
	}
	wait.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Waiting != 0 || p.firsts != 0 {
		t.Errorf("afterwards: %+v, %d bytes of first buffers", s, p.firsts)
	}
}
