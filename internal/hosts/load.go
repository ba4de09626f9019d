//go:build linux

package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Load is clients that work on a fleet as services behind a load balancer
// would: each asks one node after the other, and the next one where nobody
// listens. Each has subjects of its own, knows what it was told of them, and
// holds every later answer against it.
type Load struct {
	t      testing.TB
	token  string
	client *http.Client
	nodes  func() []*Node // that are to be asked
	pace   time.Duration  // between two requests of a client

	stop    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	asked   int
	failed  []string // requests that were answered with an error, or not
	wrong   []string // answers that can't be
	slowest time.Duration
	clients []*worker
}

// Work starts so many clients, each with a request every so often at most.
func (f *Fleet) Work(token string, clients int, pace time.Duration, nodes func() []*Node) *Load {
	l := &Load{t: f.t, token: token, client: f.Client(), nodes: nodes, pace: pace, stop: make(chan struct{})}
	seed := rand.Uint64()
	f.t.Logf("load: seed %d", seed)
	for i := range clients {
		w := &worker{Load: l, rng: rand.New(rand.NewPCG(seed, uint64(i))), subjects: map[string]*subject{}}
		l.clients = append(l.clients, w)
		l.running.Go(w.work) // ends with Stop
	}
	f.t.Cleanup(func() { l.Stop() })
	return l
}

// Serving are the nodes that clients are sent to, for [Fleet.Work]: those that
// run, have once said that they are ready, and were not sent away from.
func (f *Fleet) Serving() []*Node {
	var nodes []*Node
	for _, name := range f.Names() {
		if n := f.Node(name); n.serves() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Tally is what became of a load's requests.
type Tally struct {
	Asked    int
	Failed   []string // that were answered with an error, or not
	Wrong    []string // answers that contradict what was acknowledged
	Slowest  time.Duration
	Subjects int
}

// Tally returns what became of the requests so far.
func (l *Load) Tally() Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Tally{Asked: l.asked, Failed: slices.Clone(l.failed), Wrong: slices.Clone(l.wrong), Slowest: l.slowest}
	for _, w := range l.clients {
		w.mu.Lock()
		t.Subjects += len(w.subjects)
		w.mu.Unlock()
	}
	return t
}

// Stop ends the clients, when what they asked has been answered.
func (l *Load) Stop() Tally {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.running.Wait()
	l.client.CloseIdleConnections()
	return l.Tally()
}

// Verify reads every subject with the others' writes in sight, at every node
// that runs, and returns what is not as it was acknowledged: lost, old, or back
// after its erasure. The load must have been stopped.
func (l *Load) Verify() (wrong []string) {
	for _, n := range l.nodes() {
		for _, w := range l.clients {
			wrong = append(wrong, w.verify(n)...)
		}
	}
	return wrong
}

// subject is what a client knows of one of its subjects.
type subject struct {
	value  int   // the last that was acknowledged; 0: none was
	maybe  []int // later ones, of which nobody knows
	erased bool  // acknowledged
	doomed bool  // erased, perhaps
}

// fits reports whether a value can be what the subject has now.
func (s *subject) fits(value int) bool {
	return !s.erased && (value == s.value && value != 0 || slices.Contains(s.maybe, value))
}

// gone reports whether the subject can be gone.
func (s *subject) gone() bool { return s.erased || s.doomed || s.value == 0 }

type worker struct {
	*Load
	rng  *rand.Rand
	next int
	ids  []string

	mu       sync.Mutex
	subjects map[string]*subject
}

func (w *worker) work() {
	var tick <-chan time.Time
	if w.pace > 0 {
		ticker := time.NewTicker(w.pace)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		if tick != nil {
			select {
			case <-tick:
			case <-w.stop:
				return
			}
		}
		select {
		case <-w.stop:
			return
		default:
			w.step()
		}
	}
}

// step does one thing.
func (w *worker) step() {
	switch dice := w.rng.IntN(100); {
	case dice < 15 || len(w.ids) == 0:
		w.ids = append(w.ids, newID(w.rng))
		w.write(w.ids[len(w.ids)-1])
	case dice < 40:
		w.write(w.ids[w.rng.IntN(len(w.ids))])
	case dice < 43 && len(w.ids) > 10:
		w.erase(w.ids[w.rng.IntN(len(w.ids))])
	default:
		w.read()
	}
}

// of returns what is known of a subject.
func (w *worker) of(id string) *subject {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subjects[id] == nil {
		w.subjects[id] = &subject{}
	}
	return w.subjects[id]
}

func (w *worker) write(id string) {
	s := w.of(id)
	w.next++
	value := w.next
	s.maybe = append(s.maybe, value) // before it is sent: nobody knows until it is answered
	a := w.ask("PUT", "/v1/subjects/"+id, fmt.Sprintf(`{"fields":{"display_name":"v%d"}}`, value))
	switch {
	case a.code/100 == 2 && s.erased:
		w.note(&w.wrong, a, "a write on a subject that was erased")
	case a.code/100 == 2:
		s.value = value // what has no answer may still happen
		s.maybe = slices.DeleteFunc(s.maybe, func(v int) bool { return v == value })
	case a.code == 409 && (s.erased || s.doomed):
		s.erased, s.maybe = true, nil
	case a.nothing():
		s.maybe = slices.DeleteFunc(s.maybe, func(v int) bool { return v == value })
		w.note(&w.failed, a, "")
	default:
		w.note(&w.failed, a, "")
	}
}

func (w *worker) erase(id string) {
	s := w.of(id)
	s.doomed = true
	a := w.ask("DELETE", "/v1/subjects/"+id, "")
	switch {
	case a.code == 200:
		s.erased, s.maybe = true, nil
	case a.code == 404 && s.value == 0 && !s.erased:
		// it never was
	default:
		w.note(&w.failed, a, "")
	}
}

// read resolves a few subjects under a lease. What it is answered may be old,
// as far as only this client's own writes tell, by three seconds: so only what
// was erased, or never written, counts as wrong here.
func (w *worker) read() {
	var ids []string
	for range min(20, len(w.ids)) {
		ids = append(ids, w.ids[w.rng.IntN(len(w.ids))])
	}
	erased := map[string]bool{}
	for _, id := range ids {
		erased[id] = w.of(id).erased // acknowledged before the read began
	}
	a := w.ask("POST", "/v1/resolve", `{"ids":["`+strings.Join(ids, `","`)+`"],"fields":["display_name"]}`)
	p, ok := w.page(a)
	if !ok {
		return
	}
	for id := range p.Subjects {
		if erased[id] {
			w.note(&w.wrong, a, id+" was read after its erasure was acknowledged")
		}
	}
}

// page is the answer to a resolve.
type page struct {
	Subjects             map[string]map[string]string
	Missing, Unavailable []string
}

func (w *worker) page(a answer) (p page, ok bool) {
	if a.code != 200 {
		w.note(&w.failed, a, "")
		return p, false
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		w.note(&w.wrong, a, "no page: "+err.Error())
		return p, false
	}
	if len(p.Unavailable) > 0 {
		w.note(&w.failed, a, fmt.Sprint(len(p.Unavailable), " ids unavailable"))
	}
	return p, true
}

// verify reads all subjects at a node, linearizably.
func (w *worker) verify(n *Node) (wrong []string) {
	for chunk := range slices.Chunk(w.ids, 500) {
		a := w.askAt(n, "POST", "/v1/resolve", `{"ids":["`+strings.Join(chunk, `","`)+`"],"fields":["display_name"]}`, "Cloakroom-Consistency", "linearizable")
		var p page
		if a.code != 200 || json.Unmarshal(a.body, &p) != nil || len(p.Unavailable) > 0 {
			return append(wrong, fmt.Sprintf("%s: not verified: %v, %d unavailable", n.Name, a, len(p.Unavailable)))
		}
		for _, id := range chunk {
			s := w.of(id)
			fields, there := p.Subjects[id]
			var value int
			fmt.Sscanf(fields["display_name"], "v%d", &value) //nolint:errcheck // 0 then
			switch {
			case there && s.erased:
				wrong = append(wrong, fmt.Sprintf("%s: %s is back after its erasure", n.Name, id))
			case there && !s.fits(value):
				wrong = append(wrong, fmt.Sprintf("%s: %s is v%d, want v%d or one of %v", n.Name, id, value, s.value, s.maybe))
			case !there && !s.gone():
				wrong = append(wrong, fmt.Sprintf("%s: %s is lost, want v%d or one of %v", n.Name, id, s.value, s.maybe))
			}
		}
	}
	return wrong
}

// answer is what became of a request.
type answer struct {
	node, what string
	code       int // 0: none
	body       []byte
	err        error
}

// nothing reports whether the answer promises that nothing was done.
func (a answer) nothing() bool { return a.code == 503 || a.code == 429 || a.code == 412 }

func (a answer) String() string {
	if a.err != nil {
		return fmt.Sprintf("%s at %s: %v", a.what, a.node, a.err)
	}
	return fmt.Sprintf("%s at %s: %d %.200s", a.what, a.node, a.code, a.body)
}

func (l *Load) note(list *[]string, a answer, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*list) < 1000 {
		*list = append(*list, strings.TrimSpace(time.Now().Format("15:04:05.000 ")+what+" "+a.String()))
	}
}

// ask sends a request to one node after the other until one takes it.
func (w *worker) ask(method, path, body string) (a answer) {
	begun := time.Now()
	nodes := w.nodes()
	w.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	a = answer{what: method, err: errors.New("there is no node")}
	for _, n := range nodes {
		if a = w.askAt(n, method, path, body); !away(a.err) {
			break
		}
	}
	w.Load.mu.Lock()
	defer w.Load.mu.Unlock()
	w.asked++
	w.slowest = max(w.slowest, time.Since(begun))
	return a
}

// away reports whether nobody listened: nothing was sent.
func away(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (w *worker) askAt(n *Node, method, path, body string, headers ...string) answer {
	return ask(w.client, w.token, n, method, path, body, headers...)
}

// ask sends one request to one node.
func ask(client *http.Client, token string, n *Node, method, path, body string, headers ...string) answer {
	a := answer{node: n.Name, what: method}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.URL()+path, bytes.NewReader([]byte(body)))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.code = resp.StatusCode
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}
