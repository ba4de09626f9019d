package dumptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom/internal/people"
)

// storeCrowd deposits the first people in batches, under their own ids.
func storeCrowd(t *testing.T, node *devNode, crowd *people.People) {
	t.Helper()
	const batch = 1000
	for from := uint64(0); from < stored; from += batch {
		var body bytes.Buffer
		body.WriteString(`{"subjects":[`)
		for i := range uint64(batch) {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"id":"%v","fields":%s}`, crowd.ID(from+i), fields(crowd, from+i))
		}
		body.WriteString("]}")
		if status, err := node.call(t.Context(), http.MethodPost, "/v1/subjects/batch", body.String(), devToken, nil); err != nil || status != http.StatusOK {
			t.Fatalf("store people: status %d, %v", status, err)
		}
	}
}

// fields returns the values of one person as the API takes them.
func fields(crowd *people.People, i uint64) string {
	one := crowd.Person(i)
	return fmt.Sprintf(`{"display_name":%q,"email":%q,"phone":%q,"birth_date":%q,"address":%s}`,
		one.DisplayName, one.Email, one.Phone, one.BirthDate, one.Address)
}

// call sends one request; want, if not empty, must be in the answer.
func (n *devNode) call(ctx context.Context, method, path, body, token string, want []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, n.url()+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for _, sign := range []string{`"unavailable":[`, `/problems/unavailable"`, `/problems/overloaded"`, `/problems/outcome-unknown"`} {
		if bytes.Contains(answer, []byte(sign)) {
			return resp.StatusCode, errNotNow
		}
	}
	if !bytes.Contains(answer, want) {
		return resp.StatusCode, fmt.Errorf("%s %s: status %d without what was stored", method, path, resp.StatusCode)
	}
	return resp.StatusCode, nil
}

// errNotNow is what a request gets whose shard had no leader in time. A dump
// stops the process for many seconds: where there are several nodes, requests
// of that moment find their time over, and elections under way.
var errNotNow = errors.New("the shard could not answer in time")

// loadRun is the load on one node. Each worker goes through all kinds of
// requests, the refused and broken ones too: error paths leave bodies behind
// that nobody thinks of.
type loadRun struct {
	node    *devNode
	crowd   *people.People
	kinds   []kind
	counts  []atomic.Int64 // by kind
	total   atomic.Int64
	late    atomic.Int64  // requests that were not answered in time
	people  atomic.Uint64 // of those deposited so far
	refused atomic.Uint64
	workers sync.WaitGroup
	failed  chan error
}

// kind is one kind of request, with the status it must get; 0: no answer is
// waited for.
type kind struct {
	name   string
	status int
	send   func(l *loadRun, ctx context.Context, n uint64) (int, error)
}

// readKinds are the requests that show values.
var readKinds = []kind{
	{"resolve", http.StatusOK, (*loadRun).resolve},
	{"get", http.StatusOK, (*loadRun).get},
	{"masked", http.StatusOK, (*loadRun).masked},
}

// allKinds are all requests.
var allKinds = append(slices.Clone(readKinds), []kind{
	{"deposit", http.StatusCreated, (*loadRun).deposit},
	{"deposit batch", http.StatusOK, (*loadRun).depositBatch},
	{"upsert", http.StatusOK, (*loadRun).upsert},
	{"patch", http.StatusOK, (*loadRun).patch},
	{"put", http.StatusOK, (*loadRun).put},
	{"broken JSON", http.StatusBadRequest, (*loadRun).brokenJSON},
	{"bad value", http.StatusUnprocessableEntity, (*loadRun).badValue},
	{"unknown caller", http.StatusUnauthorized, (*loadRun).unknownCaller},
	{"half a body", 0, (*loadRun).halfBody},
}...)

func startLoad(ctx context.Context, node *devNode, crowd *people.People, kinds []kind) *loadRun {
	l := &loadRun{node: node, crowd: crowd, kinds: kinds, counts: make([]atomic.Int64, len(kinds)), failed: make(chan error, loadWorkers)}
	for w := range uint64(loadWorkers) {
		l.workers.Go(func() {
			if err := l.work(ctx, w); err != nil && ctx.Err() == nil {
				l.failed <- err
			}
		})
	}
	return l
}

func (l *loadRun) work(ctx context.Context, w uint64) error {
	for n := w; ctx.Err() == nil; n += loadWorkers {
		at := n / loadWorkers % uint64(len(l.kinds))
		kind := l.kinds[at]
		status, err := kind.send(l, ctx, n)
		if errors.Is(err, errNotNow) && len(l.node.urls) > 1 {
			l.late.Add(1)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		if status != kind.status {
			return fmt.Errorf("%s: status %d, want %d", kind.name, status, kind.status)
		}
		l.counts[at].Add(1)
		l.total.Add(1)
	}
	return nil
}

// await waits until so many more requests were answered.
func (l *loadRun) await(t *testing.T, more int64) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for from := l.total.Load(); l.total.Load() < from+more; {
		select {
		case err := <-l.failed:
			t.Fatal("load: ", err)
		case <-limit:
			t.Fatalf("%d requests in two minutes", l.total.Load()-from)
		case <-tick.C:
		}
	}
}

// wait waits for the workers after their context has ended.
func (l *loadRun) wait(t *testing.T) map[string]int64 {
	t.Helper()
	l.workers.Wait()
	select {
	case err := <-l.failed:
		t.Fatal("load: ", err)
	default:
	}
	done := map[string]int64{"not in time": l.late.Load()}
	for i, kind := range l.kinds {
		done[kind.name] = l.counts[i].Load()
	}
	return done
}

func (l *loadRun) resolve(ctx context.Context, n uint64) (int, error) { return l.page(ctx, n, "") }
func (l *loadRun) masked(ctx context.Context, n uint64) (int, error) {
	return l.page(ctx, n, `,"form":"masked"`)
}

// page resolves 100 people, three fields each.
func (l *loadRun) page(ctx context.Context, n uint64, form string) (int, error) {
	body := []byte(`{"ids":[`)
	for i := range uint64(100) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '"')
		body = l.crowd.ID((n*7919 + i*31) % stored).AppendText(body)
		body = append(body, '"')
	}
	body = append(body, `],"fields":["display_name","email","address"]`+form+`}`...)
	var want []byte
	if form == "" {
		want = l.crowd.Infix(n * 7919 % stored)
	}
	return l.node.call(ctx, http.MethodPost, "/v1/resolve", string(body), devToken, want)
}

func (l *loadRun) get(ctx context.Context, n uint64) (int, error) {
	return l.node.call(ctx, http.MethodGet, "/v1/subjects/"+l.crowd.ID(n%stored).String(), "", devToken, l.crowd.Infix(n%stored))
}

// next returns the number of somebody who was not deposited yet, or of the
// last one again.
func (l *loadRun) next(count uint64) uint64 {
	return stored + min(l.people.Add(count), deposited) - count
}

func (l *loadRun) deposit(ctx context.Context, _ uint64) (int, error) {
	return l.node.call(ctx, http.MethodPost, "/v1/subjects", `{"fields":`+fields(l.crowd, l.next(1))+`}`, devToken, []byte(`"version"`))
}

func (l *loadRun) depositBatch(ctx context.Context, _ uint64) (int, error) {
	const batch = 20
	from := l.next(batch)
	var subjects []string
	for i := range uint64(batch) {
		subjects = append(subjects, `{"fields":`+fields(l.crowd, from+i)+`}`)
	}
	return l.node.call(ctx, http.MethodPost, "/v1/subjects/batch", `{"subjects":[`+strings.Join(subjects, ",")+`]}`, devToken, []byte(`"version"`))
}

// upsert deposits somebody whom an issuer calls by name: that must stay nowhere
// either.
func (l *loadRun) upsert(ctx context.Context, _ uint64) (int, error) {
	person := l.next(1)
	name, err := json.Marshal(string(l.crowd.AppendName(nil, person)))
	if err != nil {
		return 0, err
	}
	status, err := l.node.call(ctx, http.MethodPut, "/v1/subjects/by-source",
		`{"issuer":"https://login.example.org","subject":`+string(name)+`,"fields":`+fields(l.crowd, person)+`}`, devToken, []byte(`"version"`))
	if status == http.StatusCreated { // made now or found
		status = http.StatusOK
	}
	return status, err
}

func (l *loadRun) patch(ctx context.Context, n uint64) (int, error) {
	name, err := json.Marshal(string(l.crowd.AppendName(nil, n%stored)))
	if err != nil {
		return 0, err
	}
	return l.node.call(ctx, http.MethodPatch, "/v1/subjects/"+l.crowd.ID(n%stored).String(),
		`{"fields":{"display_name":`+string(name)+`}}`, devToken, nil)
}

func (l *loadRun) put(ctx context.Context, n uint64) (int, error) {
	return l.node.call(ctx, http.MethodPut, "/v1/subjects/"+l.crowd.ID(n%stored).String(), `{"fields":`+fields(l.crowd, n%stored)+`}`, devToken, nil)
}

// nobody returns the number of somebody who will be refused.
func (l *loadRun) nobody() uint64 { return leftovers + l.refused.Add(1)%refusals }

func (l *loadRun) brokenJSON(ctx context.Context, _ uint64) (int, error) {
	return l.node.call(ctx, http.MethodPost, "/v1/subjects", `{"fields":`+fields(l.crowd, l.nobody())+`]`, devToken, nil)
}

func (l *loadRun) badValue(ctx context.Context, _ uint64) (int, error) {
	body := fmt.Sprintf(`{"fields":{"display_name":%q,"email":%q}}`, l.crowd.AppendName(nil, l.nobody()), l.crowd.AppendName(nil, l.nobody()))
	return l.node.call(ctx, http.MethodPost, "/v1/subjects", body, devToken, nil)
}

func (l *loadRun) unknownCaller(ctx context.Context, _ uint64) (int, error) {
	return l.node.call(ctx, http.MethodPost, "/v1/subjects", `{"fields":`+fields(l.crowd, l.nobody())+`}`, "no-such-token", nil)
}

// halfBody promises more than it sends and hangs up.
func (l *loadRun) halfBody(ctx context.Context, _ uint64) (int, error) {
	var conn net.Conn
	var err error
	transport := l.node.client.Transport.(*http.Transport)
	if strings.HasPrefix(l.node.urls[0], "https") {
		conn, err = (&tls.Dialer{Config: transport.TLSClientConfig}).DialContext(ctx, "tcp", l.node.Addr())
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", l.node.Addr())
	}
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	body := `{"fields":` + fields(l.crowd, l.nobody())
	_, err = fmt.Fprintf(conn, "POST /v1/subjects HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		l.node.Addr(), devToken, len(body)+100, body)
	return 0, err
}

// storeInRedis sets the names of the first n people.
func storeInRedis(ctx context.Context, addr string, crowd *people.People, n uint64) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	reply := make([]byte, 5)
	for i := range n {
		name := crowd.AppendName(nil, i)
		if _, err := fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$36\r\n%v\r\n$%d\r\n%s\r\n", crowd.ID(i), len(name), name); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			return err
		}
		if string(reply) != "+OK\r\n" {
			return errors.New("redis refused a name")
		}
	}
	return nil
}
