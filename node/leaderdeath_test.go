package node_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
)

// reader asks one node for the same page without a pause, and notes what takes
// longest.
type reader struct {
	url, body string
	client    *http.Client
	from      atomic.Int64 // nanoseconds since begin: what was begun before does not count
	begin     time.Time

	calls, failed int
	longest       time.Duration // of those that count
	before        time.Duration // of the others
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		call := time.Since(r.begin)
		ok := r.ask()
		took := time.Since(r.begin) - call
		if from := r.from.Load(); from == 0 || int64(call+took) < from {
			r.before = max(r.before, took)
			continue
		}
		r.calls++
		r.longest = max(r.longest, took)
		if !ok {
			r.failed++
		}
	}
}

// ask reports whether every id was answered.
func (r *reader) ask() bool {
	req, err := http.NewRequest("POST", r.url+"/v1/resolve", strings.NewReader(r.body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+allToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == 200 && !bytes.Contains(text, []byte(`"unavailable":["`)) && !bytes.Contains(text, []byte(`"missing":["`))
}

// A leader dies, and with it every third connection. Who reads at the replicas
// that are left notices nothing: their leases outlast the election.
func TestReadsGoOnWhileALeaderDies(t *testing.T) {
	nodes := openMany(t, 3, nil)
	var ids []string
	for i := range 40 {
		ids = append(ids, nodes[i%3].deposit(ada).ID)
	}
	dies := 0
	for i, h := range nodes {
		if h.node.Leads(0) {
			dies = i
		}
	}
	rest := []*house{nodes[(dies+1)%3], nodes[(dies+2)%3]}
	for _, h := range rest {
		await(t, "the replicas hold leases and all subjects", func() bool {
			begin := time.Now()
			p := h.resolve(ids, `["email"]`)
			return len(p.Subjects) == len(ids) && time.Since(begin) < 100*time.Millisecond
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var running sync.WaitGroup
	var readers []*reader
	body := `{"ids":["` + strings.Join(ids, `","`) + `"],"fields":["email"]}`
	for _, h := range rest {
		r := &reader{url: h.url, body: body, client: client, begin: time.Now()}
		readers = append(readers, r)
		running.Go(func() { r.run(ctx) }) // ends with ctx
	}
	<-time.After(time.Second) // a good lease, and what is usual
	killed := time.Now()
	for _, r := range readers {
		r.from.Store(int64(killed.Sub(r.begin)))
	}
	if err := nodes[dies].node.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "every shard has another leader", func() bool {
		for shard := range cloakroom.ShardID(4) {
			if !rest[0].node.Leads(shard) && !rest[1].node.Leads(shard) {
				return false
			}
		}
		return true
	})
	elected := time.Since(killed)
	<-time.After(500 * time.Millisecond)
	stop()
	running.Wait()
	for i, r := range readers {
		t.Logf("reader %d: %d pages, the longest took %v, before %v; the leads were taken over in %v", i+1, r.calls, r.longest, r.before, elected)
		if r.calls == 0 || r.failed > 1 { // the last was cut off
			t.Errorf("reader %d: %d of %d pages failed", i+1, r.failed, r.calls)
		}
		if r.longest > 500*time.Millisecond+r.before {
			t.Errorf("reader %d waited for %v, want at most 500ms", i+1, r.longest)
		}
	}
}
