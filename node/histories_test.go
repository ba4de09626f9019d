package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom/internal/history"
	"cloakroom/node"
)

// street is a cluster of real nodes with an end and new beginnings: all that a
// history needs and that outlasts it.
type street struct {
	t      *testing.T
	houses []atomic.Pointer[house]
	client *http.Client
	rates  []float64 // of the nodes' clocks
	rng    *rand.Rand

	dead    int    // which is, if there is an address
	address string // of its cluster port
	kills   int
}

// openStreet starts four nodes, of which every shard is on three: each forwards
// for one shard or more. Their clocks go at different rates, less than ten per
// cent apart.
func openStreet(t *testing.T, seed uint64) *street {
	s := &street{t: t, houses: make([]atomic.Pointer[house], 4), rng: rand.New(rand.NewPCG(seed, 1)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(s.client.CloseIdleConnections)
	for i := range s.houses {
		s.rates = append(s.rates, 0.95+0.09*s.rng.Float64())
		s.open(i, "127.0.0.1:0")
	}
	settle(t, s.alive())
	return s
}

func (s *street) open(i int, address string) {
	rate, begin := s.rates[i], time.Now()
	s.houses[i].Store(open(s.t, beside(s.alive(), fmt.Sprintf("n%d", i+1), address, func(cfg *node.Config) {
		cfg.Uptime = func() time.Duration { return time.Duration(rate * float64(time.Since(begin))) }
	})))
}

func (s *street) alive() (houses []*house) {
	for i := range s.houses {
		if h := s.houses[i].Load(); h != nil {
			houses = append(houses, h)
		}
	}
	return houses
}

// settled reports whether every group is where it should be.
func (s *street) settled() bool {
	for _, h := range s.alive() {
		for _, g := range h.node.Health().Groups {
			if !g.Settled || g.Tolerates < 1 {
				return false
			}
		}
	}
	return true
}

// strike brings the dead node back or, if nothing is amiss, mostly kills one:
// half of the time that which leads the shard of a subject.
func (s *street) strike(id string) {
	switch {
	case s.address != "":
		s.open(s.dead, s.address)
		s.address = ""
	case s.rng.IntN(4) > 0 && s.settled():
		s.dead = s.rng.IntN(len(s.houses))
		for i := range s.houses {
			if h := s.houses[i].Load(); s.rng.IntN(2) == 0 && h.node.Leads(h.node.ShardOf(id)) {
				s.dead = i
			}
		}
		h := s.houses[s.dead].Swap(nil)
		s.address = h.node.ClusterAddr()
		if err := h.node.Kill(); err != nil {
			s.t.Errorf("kill n%d: %v", s.dead+1, err)
		}
		s.kills++
	}
}

// tale is one history: a few subjects, and clients at all nodes that work on
// them for a while.
type tale struct {
	*street
	*history.History
	ids      []string // of the subjects
	patience time.Duration
	states   atomic.Uint64
	bare     sync.Map // states without an email address
	calls    atomic.Int64
}

func (s *street) tell() *tale {
	begin := time.Now()
	c := &tale{street: s, History: history.New(func() time.Duration { return time.Since(begin) }), patience: 700 * time.Millisecond}
	if s.rng.IntN(3) == 0 {
		c.patience = 8 * time.Second // long enough for the barrier to wait out a lease
	}
	for range 5 {
		c.ids = append(c.ids, fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", s.rng.Uint32(), s.rng.IntN(1<<16), s.rng.IntN(1<<12), s.rng.IntN(1<<12), s.rng.Int64N(1<<48)))
	}
	return c
}

// play has the clients work until stop is closed, and what they began end.
func (c *tale) play(stop <-chan struct{}) *sync.WaitGroup {
	var running sync.WaitGroup
	for i := range 8 {
		w := &teller{tale: c, name: fmt.Sprint("c", i), rng: rand.New(rand.NewPCG(c.rng.Uint64(), uint64(i))), known: make([]seen, len(c.ids))}
		running.Go(func() { // ends when stop is closed
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
	return &running
}

// teller is one client.
type teller struct {
	*tale
	name  string
	rng   *rand.Rand
	at    *house
	known []seen
	index string // the last that a write was answered with
}

// seen is what a client saw of a subject last.
type seen struct {
	version string
	state   history.State
}

// did is what became of a request.
type did struct {
	answer
	lost bool // without an answer
}

// send asks a node that is thought to be alive.
func (w *teller) send(method, path, body string, headers ...string) did {
	w.calls.Add(1)
	ctx, cancel := context.WithTimeout(w.t.Context(), w.patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.at.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return did{lost: true}
	}
	req.Header.Set("Authorization", "Bearer "+allToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return did{lost: true}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return did{answer{resp.StatusCode, resp.Header, string(b)}, err != nil}
}

// step does one thing at one node.
func (w *teller) step() {
	houses := w.alive()
	w.at = houses[w.rng.IntN(len(houses))]
	subject := w.rng.IntN(len(w.ids))
	switch dice := w.rng.IntN(100); {
	case dice < 10:
		w.put(subject)
	case dice < 20:
		w.patch(subject, false)
	case dice < 23:
		w.patch(subject, true)
	case dice < 24:
		w.erase(subject)
	case dice < 70:
		w.get(subject)
	default:
		w.page()
	}
}

// next makes a state, and the fields that stand for it.
func (w *teller) next(bare bool) (history.State, string) {
	state := history.State(w.states.Add(1))
	if !bare {
		return state, fmt.Sprintf(`{"fields":{"display_name":"v%d","email":"v%d@example.org"}}`, state, state)
	}
	w.bare.Store(state, true)
	return state, fmt.Sprintf(`{"fields":{"display_name":"v%d","email":null}}`, state)
}

func (w *teller) path(subject int) string { return "/v1/subjects/" + w.ids[subject] }

// put creates or replaces a subject.
func (w *teller) put(subject int) {
	state, body := w.next(false)
	op := history.Operation{Subject: subject, Verb: history.Write, State: state, Call: w.Now()}
	a := w.send("PUT", w.path(subject), body)
	if op.Swap = a.status == 201; op.Swap { // it created it: it was absent
		op.From = history.Absent
	}
	w.wrote(op, a)
}

// patch changes a subject, onto the version that was seen last or onto any, and
// removes a field or not.
func (w *teller) patch(subject int, removes bool) {
	state, body := w.next(removes)
	var headers []string
	op := history.Operation{Subject: subject, Verb: history.Write, State: state, Barrier: removes}
	if last := w.known[subject]; last.version != "" && w.rng.IntN(2) == 0 {
		op.Swap, op.From = true, last.state
		headers = []string{"If-Match", `"` + last.version + `"`}
	}
	op.Call = w.Now()
	w.wrote(op, w.send("PATCH", w.path(subject), body, headers...))
}

// erase erases a subject; what has no answer is tried again at another node.
func (w *teller) erase(subject int) {
	for range 2 {
		op := history.Operation{Subject: subject, Verb: history.Write, State: history.Erased, Call: w.Now()}
		a := w.send("DELETE", w.path(subject), "")
		if w.wrote(op, a); !a.lost && a.status != 504 {
			return
		}
		houses := w.alive()
		w.at = houses[w.rng.IntN(len(houses))]
	}
}

// wrote notes what a write was answered with.
func (w *teller) wrote(op history.Operation, a did) {
	op.Return, op.Note = w.Now(), fmt.Sprintf("%s at %s: %d", w.name, w.at.url, a.status)
	switch {
	case a.lost || a.status == 504:
		op.Return = history.Never
	case a.status/100 == 2:
		w.index = a.header.Get(indexHeader)
		op.Index = w.indexOf(op.Subject)
		var d deposited
		if json.Unmarshal([]byte(a.body), &d) == nil && op.State != history.Erased {
			w.known[op.Subject] = seen{d.Version, op.State}
		}
	case a.status == 409 && a.problem() == "/problems/erased":
		op = history.Operation{Subject: op.Subject, Verb: history.Read, State: history.Erased, Call: op.Call, Return: op.Return, Note: op.Note}
	case a.status == 404:
		op = history.Operation{Subject: op.Subject, Verb: history.Read, State: history.Gone, Call: op.Call, Return: op.Return, Note: op.Note}
	case a.status == 412 || a.status == 503 || a.status == 429: // nothing was done
		return
	default:
		w.t.Errorf("%s: %d %s", op.Note, a.status, a.problem())
		return
	}
	w.Add(op)
}

// indexOf returns where the last write of this client left the shard of a
// subject, 0 if that was another shard.
func (w *teller) indexOf(subject int) uint64 {
	at, err := w.at.node.OpenIndex(w.index)
	if err != nil {
		w.t.Errorf("an index that was given out: %v", err)
	}
	for _, x := range at {
		if x.Shard == w.at.node.ShardOf(w.ids[subject]) {
			return x.Index
		}
	}
	return 0
}

// ask makes the headers of a read, of either level, with an index or without.
func (w *teller) ask() (verb history.Verb, indexed bool, headers []string) {
	verb, headers = history.LeaseRead, []string{"Cloakroom-Consistency", "lease"}
	if w.rng.IntN(3) == 0 {
		verb, headers = history.Read, []string{"Cloakroom-Consistency", "linearizable"}
	}
	if indexed = w.index != "" && w.rng.IntN(2) == 0; indexed {
		headers = append(headers, indexHeader, w.index)
	}
	return verb, indexed, headers
}

// get reads one subject.
func (w *teller) get(subject int) {
	verb, indexed, headers := w.ask()
	op := history.Operation{Subject: subject, Verb: verb, Call: w.Now()}
	a := w.send("GET", w.path(subject), "", headers...)
	op.Return, op.Note = w.Now(), w.name+" at "+w.at.url
	switch {
	case a.lost || a.status == 503 || a.status == 504:
		return
	case a.status == 404:
		op.State = history.Gone
	case a.status == 200:
		var s struct {
			Version string
			Fields  map[string]string
		}
		a.decode(w.t, &s)
		op.State = w.decode(s.Fields)
		w.known[subject] = seen{s.Version, op.State}
	default:
		w.t.Errorf("GET: %d %s", a.status, a.problem())
		return
	}
	if indexed {
		op.Index = w.indexOf(subject)
	}
	w.Add(op)
}

// page reads all subjects with one request.
func (w *teller) page() {
	verb, indexed, headers := w.ask()
	call := w.Now()
	a := w.send("POST", "/v1/resolve", `{"ids":["`+strings.Join(w.ids, `","`)+`"],"fields":["display_name","email"]}`, headers...)
	ret := w.Now()
	if a.lost || a.status == 503 || a.status == 504 {
		return
	}
	var p struct {
		Subjects             map[string]map[string]string
		Missing, Unavailable []string
	}
	if a.status != 200 {
		w.t.Errorf("resolve: %d %s", a.status, a.problem())
		return
	}
	a.decode(w.t, &p)
	states := make(map[string]history.State)
	for id, fields := range p.Subjects {
		states[id] = w.decode(fields)
	}
	for _, id := range p.Missing {
		states[id] = history.Gone
	}
	for subject, id := range w.ids {
		if state, told := states[id]; told {
			op := history.Operation{Subject: subject, Verb: verb, State: state, Call: call, Return: ret, Note: w.name + ", page, at " + w.at.url}
			if indexed {
				op.Index = w.indexOf(subject)
			}
			w.Add(op)
		}
	}
}

// decode tells which write the fields are of, and whether they are of one.
func (w *teller) decode(fields map[string]string) history.State {
	n, err := strconv.ParseUint(strings.TrimPrefix(fields["display_name"], "v"), 10, 64)
	if err != nil {
		w.t.Errorf("display_name %q was never written", fields["display_name"])
	}
	email, there := fields["email"]
	if _, bare := w.bare.Load(history.State(n)); bare == there || there && email != fmt.Sprintf("v%d@example.org", n) {
		w.t.Errorf("a subject of v%d with the email address %q", n, email)
	}
	return history.State(n)
}

// await waits for so many requests, or for that time.
func (c *tale) await(calls int64, atMost time.Duration) {
	limit := time.After(atMost)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.calls.Load() < calls {
		select {
		case <-tick.C:
		case <-limit:
			return
		}
	}
}

// Clients at all nodes write, erase and read at both levels, with the index of
// their last write and without, while nodes die and come back. What they were
// told must have an order. HISTORIES says how many such histories there are to
// be: each is half a second of eight clients, or until what they began has
// ended where an erasure waits for the lease of a node that died.
func TestHistories(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("HISTORIES"))
	if n == 0 {
		n = 6
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := openStreet(t, seed)
	calls, ops, begin, slowest := 0, 0, time.Now(), time.Duration(0)
	for i := range n {
		c, stop := s.tell(), make(chan struct{})
		running := c.play(stop)
		c.await(50, 200*time.Millisecond)
		s.strike(c.ids[0])
		c.await(1<<62, 500*time.Millisecond-c.Now())
		close(stop)
		running.Wait()
		slowest = max(slowest, c.Now())
		if faults := c.Check(history.Bounds{Lease: 3 * time.Second}); len(faults) > 0 {
			t.Fatalf("history %d: %v", i, faults)
		}
		calls, ops = calls+int(c.calls.Load()), ops+len(c.Operations())
	}
	took := time.Since(begin)
	t.Logf("%d histories with %d kills, %d calls, %d operations in %v: %v each, the longest %v", n, s.kills, calls, ops, took, took/time.Duration(n), slowest)
}
