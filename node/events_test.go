package node_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cluster/directory"
	"cloakroom/node"
)

// as returns a client of a house with that token.
func (h *house) as(token string, change func(*client.Config)) *client.Client {
	h.t.Helper()
	text, err := client.NewToken([]byte(token))
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := client.Config{Addr: h.url, Token: text}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// subscriber collects what a stream tells.
type subscriber struct {
	t      *testing.T
	events chan client.Event
	stop   func()

	resets          int
	cursor          string
	known           time.Time
	erased, changed map[string]bool
}

func subscribe(t *testing.T, c *client.Client, cursor string) *subscriber {
	ctx, cancel := context.WithCancel(t.Context())
	s := &subscriber{t: t, events: make(chan client.Event, 1000), erased: map[string]bool{}, changed: map[string]bool{}}
	ended := make(chan error, 1)
	go func() { // stop ends it
		ended <- c.Events(ctx, client.Watch{Cursor: cursor}, func(e client.Event) error {
			s.events <- e
			return nil
		})
	}()
	s.stop = func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
	}
	t.Cleanup(cancel)
	return s
}

// until takes events in until a condition holds, for half a minute at most.
func (s *subscriber) until(what string, holds func() bool) {
	s.t.Helper()
	limit := time.After(30 * time.Second)
	for !holds() {
		select {
		case e := <-s.events:
			s.take(e)
		case <-limit:
			s.t.Fatalf("gave up waiting until %s: %d resets, %d erased, %d changed", what, s.resets, len(s.erased), len(s.changed))
		}
	}
}

func (s *subscriber) take(e client.Event) {
	if e.Reset {
		s.resets++
	}
	for _, id := range e.Erased {
		s.erased[id.String()] = true
	}
	for _, id := range e.Changed {
		s.changed[id.String()] = true
	}
	s.cursor = e.Cursor
	if !e.Known.IsZero() {
		s.known = e.Known
	}
}

// caughtUp waits until all that was acknowledged by now has been told.
func (s *subscriber) caughtUp() {
	s.t.Helper()
	now := time.Now()
	s.until("all is told", func() bool { return s.known.After(now) })
}

func mayWatch(cfg *node.Config) {
	twoShops(cfg)
	for i := range cfg.Principals {
		cfg.Principals[i].Grant.Actions = append(cfg.Principals[i].Grant.Actions, directory.Events)
	}
	cfg.Principals = append(cfg.Principals, node.Principal{Name: "nobody", Token: []byte("token-nobody"),
		Grant: directory.Grant{Actions: []directory.Action{directory.Resolve}, AllFields: true, AllDomains: true, Form: directory.FormPlain}})
}

func TestSubscribersAreToldOfTheirDomains(t *testing.T) {
	secure := httptest.NewTLSServer(nil) // for its certificate
	defer secure.Close()
	h := open(t, func(cfg *node.Config) {
		mayWatch(cfg)
		cfg.TLS = secure.TLS.Clone()
	})
	h.url = strings.Replace(h.url, "http:", "https:", 1)
	overTLS := func(cfg *client.Config) { cfg.Transport = secure.Client().Transport }
	dev := h.as(allToken, overTLS)
	all := subscribe(t, dev, "")
	shop := subscribe(t, h.as("token-shop", overTLS), "")
	all.until("the stream begins", func() bool { return all.resets == 1 })
	shop.until("the stream begins", func() bool { return shop.resets == 1 })

	name := client.Fields{"display_name": client.Text("Ada")}
	there, err1 := dev.Deposit(t.Context(), client.Subject{Domain: "shop", Fields: name})
	elsewhere, err2 := dev.Deposit(t.Context(), client.Subject{Domain: "clinic", Fields: name})
	kept, err3 := dev.Deposit(t.Context(), client.Subject{Domain: "shop", Fields: name})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, id := range []cloakroom.Pseudonym{there.ID, elsewhere.ID, kept.ID} {
		if _, err := dev.Patch(t.Context(), id, "", client.Fields{"email": client.Text("a@example.org")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []cloakroom.Pseudonym{there.ID, elsewhere.ID} {
		if _, err := dev.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	shop.until("it is told", func() bool { return shop.erased[there.ID.String()] })
	if took := time.Since(begun); took > time.Second {
		t.Errorf("told %v after the erasure was acknowledged", took)
	}
	all.caughtUp()
	shop.caughtUp()
	if len(shop.erased) != 1 || !shop.changed[kept.ID.String()] || shop.changed[elsewhere.ID.String()] || shop.erased[elsewhere.ID.String()] {
		t.Errorf("the shop was told of %d erased and %d changed", len(shop.erased), len(shop.changed))
	}
	if len(all.erased) != 2 || !all.changed[kept.ID.String()] {
		t.Errorf("who may see all was told of %d erased and %d changed", len(all.erased), len(all.changed))
	}
	all.stop()
	shop.stop()
	if _, err := dev.Deposit(t.Context(), client.Subject{Fields: name}); err != nil {
		t.Fatal(err)
	}
}

// Each domain is told the pseudonym that it knows a person by.
func TestSubscribersAreToldTheirOwnPseudonym(t *testing.T) {
	h := open(t, mayWatch)
	shop, clinic := subscribe(t, h.as("token-shop", nil), ""), subscribe(t, h.as("token-clinic", nil), "")
	shop.caughtUp()
	clinic.caughtUp()
	inShop := h.upsert(201, source("s1", "shop", "Ada"), asShop...)
	inClinic := h.upsert(201, source("s1", "clinic", "Ada"), asClinic...)
	h.call("DELETE", "/v1/subjects/"+inShop.ID, "", asShop...).want(t, 200, "")
	shop.caughtUp()
	clinic.caughtUp()
	if len(shop.erased) != 1 || !shop.erased[inShop.ID] {
		t.Errorf("the shop was told of %d erased", len(shop.erased))
	}
	if len(clinic.erased) != 1 || !clinic.erased[inClinic.ID] || clinic.erased[inShop.ID] || clinic.changed[inShop.ID] {
		t.Errorf("the clinic was told of %d erased", len(clinic.erased))
	}
	shop.stop()
	clinic.stop()
}

func TestCursorsThatAreRefusedOrBeginAnew(t *testing.T) {
	h, stranger := open(t, mayWatch), open(t, nil)
	first := subscribe(t, h.as(allToken, nil), "")
	first.caughtUp()
	first.stop()
	other := subscribe(t, stranger.as(allToken, nil), "")
	other.caughtUp()
	other.stop()
	flipped := []byte(first.cursor)
	flipped[len(flipped)/2] ^= 1
	for name, cursor := range map[string]string{
		"of another cluster": other.cursor, "forged": strings.Repeat("A", 80), "changed": string(flipped), "cut off": first.cursor[:20],
	} {
		if a := h.call("GET", "/v1/events", "", "Last-Event-ID", cursor); a.status != 400 {
			t.Errorf("a cursor %s: status %d, want 400", name, a.status)
		}
	}
	h.call("GET", "/v1/events", "", "Authorization", "Bearer token-nobody").want(t, 403, "denied")

	resets := func(token, cursor string) int {
		s := subscribe(t, h.as(token, nil), cursor)
		defer s.stop()
		s.caughtUp()
		return s.resets
	}
	if n := resets(allToken, first.cursor); n != 0 {
		t.Errorf("one's own cursor: %d resets", n)
	}
	if n := resets("token-shop", first.cursor); n != 1 {
		t.Errorf("the cursor of another principal: %d resets, want 1", n)
	}
	// Whoever is told under new rules may hold what the old ones allowed.
	running := subscribe(t, h.as(allToken, nil), first.cursor)
	running.caughtUp()
	body := `{"epoch":1,"fields":[{"name":"display_name","type":"text","purposes":["display"],"max_retention":"87600h"}]}`
	h.call("PUT", "/v1/schema", body).want(t, 200, "")
	running.until("it begins anew", func() bool { return running.resets == 1 })
	running.stop()
	if n := resets(allToken, first.cursor); n != 1 {
		t.Errorf("a cursor from before a change of the schema: %d resets, want 1", n)
	}
}

func TestEventsAreAudited(t *testing.T) {
	h := open(t, mayWatch)
	d := h.deposit(ada)
	s := subscribe(t, h.as(allToken, nil), "")
	s.caughtUp()
	h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	s.caughtUp()
	s.stop()
	h.call("GET", "/v1/events", "", "Authorization", "Bearer token-nobody").want(t, 403, "denied")
	await(t, "the end of the stream is recorded", func() bool {
		return strings.Contains(h.node.AuditLines(), `"principal":"dev","action":"events","asked":0,"found":1,"missing":0,"outcome":"ok"`)
	})
	lines := h.node.AuditLines()
	for _, want := range []string{
		`"principal":"dev","action":"events","asked":0,"found":0,"missing":0,"outcome":"intent"`,
		`"principal":"nobody","action":"events","asked":0,"found":0,"missing":0,"outcome":"denied"`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no audit entry with %s", want)
		}
	}
	if strings.Contains(lines, d.ID) {
		t.Error("the audit log holds a pseudonym")
	}
}

func TestTheAuditLogSaysWhyAStreamEnded(t *testing.T) {
	h := open(t, mayWatch)
	revoke := sync.OnceValue(func() error { return h.node.Revoke(t.Context(), "shop") })
	err := h.as("token-shop", nil).Events(t.Context(), client.Watch{}, func(client.Event) error { return revoke() })
	if !errors.Is(err, cloakroom.ErrUnauthenticated) {
		t.Errorf("revoked: %v", err)
	}
	await(t, "the end of the stream is recorded", func() bool {
		return strings.Contains(h.node.AuditLines(), `"principal":"shop","action":"events","asked":0,"found":0,"missing":0,"outcome":"unauthenticated"`)
	})
}

func TestACursorGoesOnAtAnotherNode(t *testing.T) {
	nodes := openMany(t, 3, nil)
	var ids []string
	for range 20 {
		ids = append(ids, nodes[0].deposit(ada).ID)
	}
	s := subscribe(t, nodes[0].as(allToken, nil), "")
	s.caughtUp()
	nodes[1].call("DELETE", "/v1/subjects/"+ids[0], "").want(t, 200, "")
	s.until("the first is told", func() bool { return s.erased[ids[0]] })
	s.stop()
	address := nodes[0].node.ClusterAddr()
	if err := nodes[0].node.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[1:] {
		nodes[1].call("DELETE", "/v1/subjects/"+id, "").want(t, 200, "")
	}
	next := subscribe(t, nodes[2].as(allToken, nil), s.cursor)
	next.caughtUp()
	if next.resets != 0 || len(next.erased) != len(ids)-1 {
		t.Errorf("at another node: %d resets, %d erased; want 0 and %d", next.resets, len(next.erased), len(ids)-1)
	}
	next.stop()
	// A node that comes back knows of no change before it did, or of all.
	nodes[0] = open(t, beside(nodes[1:], "n1", address, nil))
	settle(t, nodes)
	late := nodes[1].deposit(ada).ID
	back := subscribe(t, nodes[0].as(allToken, nil), s.cursor)
	back.caughtUp()
	nodes[1].call("DELETE", "/v1/subjects/"+late, "").want(t, 200, "")
	back.until("the last is told", func() bool { return back.erased[late] })
	if back.resets == 0 && len(back.erased) != len(ids) {
		t.Errorf("at a node that came back: %d of %d erased, and no reset", len(back.erased), len(ids))
	}
	back.stop()
}

// Of four nodes each lacks some shards; all are told everything.
func TestNodesWithoutAShardAskOthers(t *testing.T) {
	nodes := openMany(t, 4, func(cfg *node.Config) { cfg.Shards = 4 })
	elsewhere := 0
	for _, g := range nodes[0].node.Health().Groups[1:] {
		elsewhere += len(nodes) - len(g.Voters)
	}
	if elsewhere == 0 {
		t.Fatal("every node has every shard")
	}
	var ids []string
	for i := range 40 {
		ids = append(ids, nodes[i%4].deposit(ada).ID)
	}
	var all []*subscriber
	for _, h := range nodes {
		s := subscribe(t, h.as(allToken, nil), "")
		s.caughtUp()
		all = append(all, s)
	}
	before := make([]int, len(all))
	for i, s := range all {
		before[i] = s.resets
	}
	for i, id := range ids {
		nodes[i%4].call("DELETE", "/v1/subjects/"+id, "").want(t, 200, "")
	}
	for i, s := range all {
		s.caughtUp()
		if len(s.erased) != len(ids) || s.resets != before[i] {
			t.Errorf("node %d told of %d of %d erased, and had %d gaps", i+1, len(s.erased), len(ids), s.resets-before[i])
		}
		s.stop()
	}
}

// The cache of a client at one node never serves what was erased at another
// for longer than it says, and mostly knows at once.
func TestTheClientsCacheForgetsTheErased(t *testing.T) {
	const silence = 3 * time.Second
	nodes := openMany(t, 3, nil)
	c := nodes[2].as(allToken, func(cfg *client.Config) { cfg.Cache = &client.CacheConfig{Silence: silence} })
	q := client.Query{Fields: []string{"display_name"}}
	var ids []cloakroom.Pseudonym
	for range 10 {
		id, err := cloakroom.ParsePseudonym([]byte(nodes[0].deposit(ada).ID))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	await(t, "the cache answers all", func() bool {
		before := c.CacheStats().Hits
		if _, err := c.Resolve(t.Context(), ids, q); err != nil {
			t.Fatal(err)
		}
		return c.CacheStats().Hits == before+uint64(len(ids))
	})
	for i, id := range ids {
		nodes[i%2].call("DELETE", "/v1/subjects/"+id.String(), "").want(t, 200, "")
		erased := time.Now()
		await(t, "the erased is missing", func() bool {
			asked := time.Now()
			got, err := c.Resolve(t.Context(), []cloakroom.Pseudonym{id}, q)
			if err != nil {
				t.Fatal(err)
			}
			if _, found := got.Subjects[id]; found && asked.Sub(erased) > silence {
				t.Fatalf("served %v after the erasure was acknowledged", asked.Sub(erased))
			}
			return slices.Contains(got.Missing, id)
		})
	}
}

// Streams that are open do not hold up a node that stops.
func TestANodeStopsUnderItsSubscribers(t *testing.T) {
	for name, stop := range map[string]func(*node.Node) error{"close": (*node.Node).Close, "kill": (*node.Node).Kill} {
		t.Run(name, func(t *testing.T) {
			h := open(t, nil)
			for range 5 {
				req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/v1/events", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+allToken)
				resp, err := http.DefaultClient.Do(req)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("subscribe: %v", err)
				}
				defer resp.Body.Close() // nobody reads it
			}
			page := h.call("GET", "/metrics", "").want(t, 200, "").body
			if want := fmt.Sprintf("\ncloakroom_event_streams %d\n", 5); !strings.Contains(page, want) {
				t.Errorf("the metrics lack %q", want)
			}
			begun := time.Now()
			if err := stop(h.node); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
