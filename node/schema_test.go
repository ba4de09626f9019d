package node_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloakroom"
	"cloakroom/node/api"
	"cloakroom/securemem"
)

// schemaOf gets the schema from a node.
func (h *house) schemaOf() (epoch int, fields string) {
	h.t.Helper()
	var s struct {
		Epoch  int
		Fields json.RawMessage
	}
	h.call("GET", "/v1/schema", "").want(h.t, 200, "").decode(h.t, &s)
	return s.Epoch, string(s.Fields)
}

// A change that would leave stored values behind is refused, says which field
// it is about and how to get there all the same, and changes nothing.
func TestASchemaChangeThatStrandsValuesIsRefused(t *testing.T) {
	h := open(t, nil)
	keep := func(field string) string {
		return `{"name":"display_name","type":"text","purposes":["display"],"max_retention":"8760h"},` + field
	}
	tests := []struct{ name, fields, field, hint string }{
		{"another type", keep(`{"name":"phone","type":"text","purposes":["contact"],"max_retention":"24h"}`), "phone", "declare a new field"},
		{"another type by number", keep(`{"number":4,"name":"tel","type":"text","purposes":["contact"],"max_retention":"24h"}`), "phone", "retire this one"},
		{"shorter values", keep(`{"name":"email","type":"email","purposes":["contact"],"max_retention":"24h","max_bytes":100}`), "email", "keep its max_bytes"},
		{"other purposes", keep(`{"name":"email","type":"email","purposes":["marketing"],"max_retention":"24h"}`), "email", "beside the old ones"},
		{"name taken over", keep(`{"number":3,"name":"mail","type":"email","purposes":["contact"],"max_retention":"24h"},
			{"name":"email","type":"text","purposes":["contact"],"max_retention":"24h"}`), "email", ""},
	}
	epoch, before := h.schemaOf()
	for _, tt := range tests {
		got := h.call("PUT", "/v1/schema", fmt.Sprintf(`{"epoch":%d,"fields":[%s]}`, epoch, tt.fields)).want(t, 422, "schema")
		var p struct {
			Faults []struct {
				Item          int
				Field, Reason string
			}
		}
		got.decode(t, &p)
		if len(p.Faults) != 1 || p.Faults[0].Field != tt.field || !strings.Contains(p.Faults[0].Reason, tt.hint) || p.Faults[0].Item == 0 {
			t.Errorf("%s: faults %+v", tt.name, p.Faults)
		}
	}
	if now, fields := h.schemaOf(); now != epoch || fields != before {
		t.Errorf("the schema changed to epoch %d: %s", now, fields)
	}

	// What the refusal says works: a wider limit, more purposes, then fewer; and
	// a retired name is free for a new field, not for the old number.
	for i, fields := range []string{
		keep(`{"name":"email","type":"email","purposes":["contact","marketing"],"max_retention":"24h","max_bytes":400}`),
		keep(`{"name":"email","type":"email","purposes":["marketing"],"max_retention":"24h"}`), // keeps its 400 bytes
		keep(`{"name":"phone","type":"text","purposes":["contact"],"max_retention":"24h"}`),    // a new field
	} {
		h.call("PUT", "/v1/schema", fmt.Sprintf(`{"epoch":%d,"fields":[%s]}`, epoch+i, fields)).want(t, 200, "")
	}
	_, fields := h.schemaOf()
	if !strings.Contains(fields, `"max_bytes":400,"retired":true`) || !strings.Contains(fields, `"number":8,"name":"phone","type":"text"`) {
		t.Errorf("fields: %s", fields)
	}
	revived := keep(`{"number":3,"name":"email","type":"email","purposes":["marketing"],"max_retention":"24h"}`)
	got := h.call("PUT", "/v1/schema", fmt.Sprintf(`{"epoch":%d,"fields":[%s]}`, epoch+3, revived)).want(t, 422, "schema")
	if !strings.Contains(got.body, "retired for good") || !strings.Contains(got.body, "without a number") {
		t.Errorf("a retired field came back: %s", got.body)
	}
}

// A conflict says what to do about it.
func TestASchemaOfAnotherEpochIsAConflict(t *testing.T) {
	h := open(t, nil)
	got := h.call("PUT", "/v1/schema", `{"epoch":7,"fields":[]}`).want(t, 409, "conflict")
	if !strings.Contains(got.body, "get it") {
		t.Errorf("problem: %s", got.body)
	}
}

// insist calls again while the answer is "not now" or "unknown": on a busy
// machine a leader may lose its office at any time. Only what may be done
// twice is insisted on.
func (h *house) insist(method, path, body string, headers ...string) (a answer) {
	h.t.Helper()
	for range 20 {
		if a = h.call(method, path, body, headers...); a.status != 503 && a.status != 504 {
			break
		}
	}
	return a
}

// putSchema declares fields. If the outcome is unknown it looks what became of
// it, and puts the same once more.
func (h *house) putSchema(epoch int, fields string) (answer, int) {
	h.t.Helper()
	for try := 0; ; try++ {
		a := h.call("PUT", "/v1/schema", fmt.Sprintf(`{"epoch":%d,"fields":[%s]}`, epoch, fields))
		if a.status != 503 && a.status != 504 && a.status != 409 || try == 20 {
			return a, epoch + 1
		}
		epoch, _ = h.schemaOf()
	}
}

const kept = `{"name":"display_name","type":"text","purposes":["display"],"max_retention":"8760h"}`

// What one node declared, another takes at once, and a third erases with its
// subject; what one node retired, no other answers any more.
func TestASchemaChangeHoldsOnEveryNodeAtOnce(t *testing.T) {
	nodes := openMany(t, 3, nil)
	var ids []string
	epoch := 1
	for i := range 12 {
		name := fmt.Sprintf("note_%d", i)
		put, write, erase := nodes[i%3], nodes[(i+1)%3], nodes[(i+2)%3]
		var a answer
		a, epoch = put.putSchema(epoch, kept+fmt.Sprintf(`,{"name":%q,"type":"text","purposes":["display"],"max_retention":"24h"}`, name))
		a.want(t, 200, "")
		var d, gone deposited
		write.insist("POST", "/v1/subjects", fmt.Sprintf(`{"fields":{"display_name":"Ada",%q:"noted"}}`, name), "Idempotency-Key", name).
			want(t, 201, "").decode(t, &d)
		erase.insist("POST", "/v1/subjects", fmt.Sprintf(`{"fields":{%q:"noted"}}`, name), "Idempotency-Key", name+"-gone").
			want(t, 201, "").decode(t, &gone)
		erase.insist("DELETE", "/v1/subjects/"+gone.ID, "").want(t, 200, "")
		for _, id := range ids {
			got := erase.insist("GET", "/v1/subjects/"+id, "").want(t, 200, "")
			if strings.Contains(got.body, "noted") {
				t.Fatalf("epoch %d: a retired field was answered", epoch)
			}
		}
		ids = append(ids, d.ID)
	}
	for i, id := range ids {
		nodes[i%3].insist("DELETE", "/v1/subjects/"+id, "").want(t, 200, "")
	}
	for i, h := range nodes {
		await(t, fmt.Sprintf("node %d holds marks only", i+1), func() bool { return h.node.Records() == 2*len(ids) })
	}
}

// stale is a caller who was authenticated before the schema changed, as a
// request is that was on its way meanwhile, or came to a node that had not
// heard of it.
type stale struct {
	h      *house
	caller api.Caller
	pool   *securemem.Pool
}

func (h *house) staleCaller(pool *securemem.Pool) *stale {
	h.t.Helper()
	caller, err := h.node.Authenticate([]byte(allToken))
	if err != nil {
		h.t.Fatal(err)
	}
	return &stale{h, caller, pool}
}

// get returns the subject with all its fields.
func (s *stale) get(id string) (string, error) {
	s.h.t.Helper()
	reply, err := api.NewSubjectReply(s.h.t.Context(), s.pool)
	if err != nil {
		s.h.t.Fatal(err)
	}
	defer reply.Release()
	if err := s.h.node.Get(s.h.t.Context(), &api.Request{Caller: s.caller}, parse(s.h.t, id), &api.Query{}, reply); err != nil {
		return "", err
	}
	content, err := reply.Content()
	return string(content), err
}

// resolve returns one field of the subject.
func (s *stale) resolve(id, field string) (string, error) {
	s.h.t.Helper()
	q := &api.Query{IDs: []cloakroom.Pseudonym{parse(s.h.t, id)}, Fields: [][]byte{[]byte(field)}, Asked: 1}
	reply, err := api.NewResolveReply(s.h.t.Context(), s.pool, q)
	if err != nil {
		s.h.t.Fatal(err)
	}
	defer reply.Release()
	if err := s.h.node.Resolve(s.h.t.Context(), &api.Request{Caller: s.caller}, q, reply); err != nil {
		return "", err
	}
	content, err := reply.Content()
	return string(content), err
}

func parse(t *testing.T, id string) cloakroom.Pseudonym {
	t.Helper()
	p, err := cloakroom.ParsePseudonym([]byte(id))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Once a change is acknowledged no node answers by the schema before it, from
// whichever replica and whatever its own view says; and none refuses what the
// new one declares.
func TestNobodyWorksByAnOldSchema(t *testing.T) {
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	nodes := openMany(t, 3, nil)
	for i, h := range nodes {
		note := fmt.Sprintf("note_%d", i)
		declared := func(more string) string {
			return kept + fmt.Sprintf(`,{"name":%q,"type":"text","purposes":["display",%q],"max_retention":"24h"}`, note+more, note+more)
		}
		putter := nodes[(i+1)%3]
		epoch, _ := putter.schemaOf()
		a, _ := putter.putSchema(epoch, declared(""))
		a.want(t, 200, "")
		var d deposited
		h.insist("POST", "/v1/subjects", fmt.Sprintf(`{"fields":{"display_name":"Ada",%q:"noted"}}`, note), "Idempotency-Key", note).
			want(t, 201, "").decode(t, &d)

		for _, old := range []string{"get", "resolve", "deposit", "purpose"} {
			s := h.staleCaller(memory.Pool())
			more := "_" + old
			epoch, _ = putter.schemaOf()
			a, _ = putter.putSchema(epoch, declared(more))
			a.want(t, 200, "")
			switch old {
			case "get":
				if got, err := s.get(d.ID); err != nil || strings.Contains(got, "noted") || !strings.Contains(got, "Ada") {
					t.Errorf("node %d: get: %s, %v", i+1, got, err)
				}
			case "resolve":
				if got, err := s.resolve(d.ID, note+"_get"); !errors.Is(err, cloakroom.ErrSchema) {
					t.Errorf("node %d: resolve of a retired field: %s, %v", i+1, got, err)
				}
				if got, err := s.resolve(d.ID, note+more); err != nil || !strings.Contains(got, `"`+d.ID+`":{}`) {
					t.Errorf("node %d: resolve of a new field: %s, %v", i+1, got, err)
				}
			case "deposit":
				fields := []api.FieldValue{{Name: []byte(note + more), Kind: api.String, Value: []byte("anew")}}
				if _, err := h.node.Deposit(t.Context(), &api.Request{Caller: s.caller}, &api.Deposit{Fields: fields}); err != nil {
					t.Errorf("node %d: deposit of a new field: %v", i+1, err)
				}
			case "purpose":
				fields := []api.FieldValue{{Name: []byte(note + more), Kind: api.String, Value: []byte("anew")}}
				req := &api.Request{Caller: s.caller, Purpose: []byte(note + more)}
				if _, err := h.node.Deposit(t.Context(), req, &api.Deposit{Fields: fields}); err != nil {
					t.Errorf("node %d: a new purpose: %v", i+1, err)
				}
			}
		}
	}
}

// changing is what clients know of a schema that changes under them.
type changing struct {
	mu       sync.Mutex
	live     string          // declared, and acknowledged
	retiring map[string]bool // somebody began to retire it
	retired  map[string]bool // acknowledged
	subjects map[string]held // what was acknowledged
	strays   int             // deposits that may have been done, and could not be asked for again
}

// held is what a subject must say.
type held struct{ name, note, value string }

func (c *changing) note(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
}

// now returns the field to write, and what may be answered no more.
func (c *changing) now() (live string, retired map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live, maps.Clone(c.retired)
}

// change replaces one field by the next, again and again, on all nodes in turn.
func (c *changing) change(t *testing.T, nodes []*house, changes int) {
	epoch := 2
	for i := range changes {
		next, last := fmt.Sprintf("note_%d", i+1), fmt.Sprintf("note_%d", i)
		c.note(func() { c.retiring[last] = true })
		var a answer
		a, epoch = nodes[i%len(nodes)].putSchema(epoch, kept+fmt.Sprintf(`,{"name":%q,"type":"text","purposes":["display"],"max_retention":"24h"}`, next))
		if a.status != 200 {
			t.Errorf("change %d: %d %s", i, a.status, a.body)
			return
		}
		c.note(func() { c.retired[last], c.live = true, next })
	}
}

// write deposits subjects, and renames them, until done. What is refused must
// name a field that somebody began to retire.
func (c *changing) write(t *testing.T, h *house, who string, done <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		field, _ := c.now()
		s := held{fmt.Sprintf("%s %d", who, i), field, fmt.Sprintf("noted by %s %d", who, i)}
		body := fmt.Sprintf(`{"fields":{"display_name":%q,%q:%q}}`, s.name, s.note, s.value)
		key := fmt.Sprintf("%s-%d", who, i)
		a := h.call("POST", "/v1/subjects", body, "Idempotency-Key", key)
		unknown := a.status == 504
		if unknown || a.status == 503 {
			a = h.insist("POST", "/v1/subjects", body, "Idempotency-Key", key)
		}
		excused := false
		c.note(func() {
			if excused = a.status == 422 && c.retiring[field]; excused && unknown {
				c.strays++
			}
		})
		if excused {
			continue
		}
		var d deposited
		if a.status != 201 || json.Unmarshal([]byte(a.body), &d) != nil {
			t.Errorf("%s: deposit with %s: %d %s", who, field, a.status, a.body)
			return
		}
		s.name += " King"
		if a := h.insist("PATCH", "/v1/subjects/"+d.ID, fmt.Sprintf(`{"fields":{"display_name":%q}}`, s.name)); a.status != 200 {
			t.Errorf("%s: patch: %d %s", who, a.status, a.body)
			return
		}
		c.note(func() { c.subjects[d.ID] = s })
	}
}

// read gets subjects until done: none is lost, and none shows a field whose
// retirement was acknowledged before the question.
func (c *changing) read(t *testing.T, h *house, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		_, retired := c.now()
		c.mu.Lock()
		id, want := "", held{}
		for id, want = range c.subjects {
			break
		}
		c.mu.Unlock()
		if id == "" {
			continue
		}
		a := h.insist("GET", "/v1/subjects/"+id, "", "Cloakroom-Consistency", "linearizable")
		var got struct{ Fields map[string]string }
		if a.status != 200 || json.Unmarshal([]byte(a.body), &got) != nil || got.Fields["display_name"] != want.name {
			t.Errorf("get: %d %s, want %q", a.status, a.body, want.name)
			return
		}
		for name, value := range got.Fields {
			if retired[name] || name == want.note && value != want.value {
				t.Errorf("answered %s = %q; retired: %v", name, value, retired[name])
				return
			}
		}
	}
}

// The schema changes many times on all nodes while clients write and read on
// all of them: nothing acknowledged is lost, nothing retired is answered,
// nothing that is declared is refused, and in the end all of it is erased.
func TestSchemaChangesUnderLoad(t *testing.T) {
	nodes := openMany(t, 3, nil)
	nodes[0].call("PUT", "/v1/schema", `{"epoch":1,"fields":[`+kept+`,
		{"name":"note_0","type":"text","purposes":["display"],"max_retention":"24h"}]}`).want(t, 200, "")
	c := &changing{live: "note_0", retiring: map[string]bool{}, retired: map[string]bool{}, subjects: map[string]held{}}
	done := make(chan struct{})
	var clients sync.WaitGroup
	for i, h := range nodes {
		clients.Go(func() { c.write(t, h, fmt.Sprintf("a%d", i), done) })
		clients.Go(func() { c.write(t, h, fmt.Sprintf("b%d", i), done) })
		clients.Go(func() { c.read(t, h, done) })
	}
	c.change(t, nodes, 30)
	close(done)
	clients.Wait()
	t.Logf("%d subjects", len(c.subjects))
	if len(c.subjects) < 20 {
		t.Errorf("only %d subjects were written", len(c.subjects))
	}
	for i, id := range slices.Sorted(maps.Keys(c.subjects)) {
		want := c.subjects[id]
		a := nodes[i%3].insist("GET", "/v1/subjects/"+id, "", "Cloakroom-Consistency", "linearizable").want(t, 200, "")
		var got struct{ Fields map[string]string }
		a.decode(t, &got)
		if got.Fields["display_name"] != want.name || want.note == c.live && got.Fields[want.note] != want.value {
			t.Errorf("lost: got %v, want %+v", got.Fields, want)
		}
		nodes[(i+1)%3].insist("DELETE", "/v1/subjects/"+id, "").want(t, 200, "")
	}
	for i, h := range nodes {
		await(t, fmt.Sprintf("node %d holds marks only", i+1), func() bool {
			left := h.node.Subjects()
			return left <= c.strays && h.node.Records() == len(c.subjects)+3*left // each stray: its own record and two fields
		})
	}
}
