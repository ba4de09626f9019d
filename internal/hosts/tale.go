//go:build linux

package hosts

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom/internal/history"
)

// Tale is one history: clients at all nodes that work on the same few subjects
// for a while, at both levels of reading, and note what they were told.
type Tale struct {
	*history.History
	client *http.Client
	token  string
	nodes  func() []*Node
	ids    []string
	states atomic.Uint64
	asked  atomic.Int64

	mu      sync.Mutex
	strange []string // answers that belong to no history
}

// Tell has so many clients tell a history until stop is closed, and returns it
// when what they began has ended.
func (f *Fleet) Tell(token string, seed uint64, clients int, stop <-chan struct{}) *Tale {
	begun := time.Now()
	c := &Tale{History: history.New(func() time.Duration { return time.Since(begun) }), client: f.Client(), token: token, nodes: f.Serving}
	c.client.Timeout = 6 * time.Second
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 4 {
		c.ids = append(c.ids, newID(rng))
	}
	var all sync.WaitGroup
	for i := range clients {
		w := &teller{Tale: c, rng: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		all.Go(func() { // ends when stop is closed
			for {
				select {
				case <-stop:
					return
				default:
					w.step()
				}
			}
		})
	}
	all.Wait()
	c.client.CloseIdleConnections()
	return c
}

// Asked and Strange are how many requests were made, and the answers that make
// no sense.
func (c *Tale) Asked() int64 { return c.asked.Load() }
func (c *Tale) Strange() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strange
}

type teller struct {
	*Tale
	rng *rand.Rand
}

func (w *teller) step() {
	nodes := w.nodes()
	n, subject := nodes[w.rng.IntN(len(nodes))], w.rng.IntN(len(w.ids))
	w.asked.Add(1)
	switch dice := w.rng.IntN(100); {
	case dice < 25:
		w.write(n, subject)
	case dice < 26:
		w.erase(n, subject)
	default:
		w.read(n, subject)
	}
	<-time.After(time.Duration(w.rng.IntN(20)) * time.Millisecond)
}

func (w *teller) write(n *Node, subject int) {
	state := history.State(w.states.Add(1))
	op := history.Operation{Subject: subject, Verb: history.Write, State: state, Call: w.Now()}
	a := ask(w.client, w.token, n, "PUT", "/v1/subjects/"+w.ids[subject], fmt.Sprintf(`{"fields":{"display_name":"v%d"}}`, state))
	if a.code == 201 { // it created it: it was absent
		op.Swap, op.From = true, history.Absent
	}
	w.wrote(op, a)
}

func (w *teller) erase(n *Node, subject int) {
	op := history.Operation{Subject: subject, Verb: history.Write, State: history.Erased, Call: w.Now()}
	w.wrote(op, ask(w.client, w.token, n, "DELETE", "/v1/subjects/"+w.ids[subject], ""))
}

// wrote notes what a write was answered with.
func (w *teller) wrote(op history.Operation, a answer) {
	op.Return, op.Note = w.Now(), a.String()
	saw := history.Operation{Subject: op.Subject, Verb: history.Read, Call: op.Call, Return: op.Return, Note: op.Note}
	switch {
	case a.err != nil && away(a.err), a.code == 503, a.code == 429: // nothing was done
		return
	case a.err != nil, a.code == 504:
		op.Return = history.Never
	case a.code/100 == 2:
	case a.code == 409:
		saw.State = history.Erased
		op = saw
	case a.code == 404:
		saw.State = history.Gone
		op = saw
	default:
		w.wonder(a)
		return
	}
	w.Add(op)
}

func (w *teller) read(n *Node, subject int) {
	verb, level := history.LeaseRead, "lease"
	if w.rng.IntN(3) == 0 {
		verb, level = history.Read, "linearizable"
	}
	op := history.Operation{Subject: subject, Verb: verb, Call: w.Now()}
	a := ask(w.client, w.token, n, "GET", "/v1/subjects/"+w.ids[subject], "", "Cloakroom-Consistency", level)
	op.Return, op.Note = w.Now(), "at "+a.node
	switch {
	case a.err != nil, a.code == 503, a.code == 504, a.code == 429:
		return
	case a.code == 404:
		op.State = history.Gone
	case a.code == 200:
		var s struct{ Fields map[string]string }
		var v uint64
		if json.Unmarshal(a.body, &s) != nil || strings.TrimLeft(s.Fields["display_name"], "v0123456789") != "" {
			w.wonder(a)
			return
		}
		fmt.Sscanf(s.Fields["display_name"], "v%d", &v) //nolint:errcheck // 0 was never written
		op.State = history.State(v)
	default:
		w.wonder(a)
		return
	}
	w.Add(op)
}

func (w *teller) wonder(a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strange = append(w.strange, a.String())
}
