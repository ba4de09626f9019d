package api

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cloakroom"
)

// TestRequestReachesService checks that everything a request carries arrives.
func TestRequestReachesService(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	const body = `{"fields":{"na\u006de":"Ada \ud83d\ude00 \"L\"\n","address":{"a" : [1]},"n":-1.5,"yes":true},"domain":"hr","ttl":"1h30m"}`
	a := f.do("POST", "/v1/subjects", body, "Idempotency-Key: key-1", "Cloakroom-Purpose: support",
		"Cloakroom-Consistency: linearizable", "Cloakroom-Index: opaque",
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if a.status != 201 || a.body != `{"id":"`+testID+`","version":"fe01020304050607"}` ||
		a.header.Get("Etag") != `"fe01020304050607"` || a.header.Get("Cloakroom-Index") != "opaque-index" {
		t.Errorf("got %+v", a)
	}
	r := service.req
	if r.Caller != theCaller || r.ID == (RequestID{}) || !r.HasTrace || r.Trace[0] != 0x0a || r.Trace[15] != 0x9c ||
		string(r.Purpose) != "support" || r.Level != cloakroom.Linearizable || string(r.Index) != "opaque" ||
		string(r.IdempotencyKey) != "key-1" || r.HasIfMatch {
		t.Errorf("request %+v", r)
	}
	if string(r.Body) != body {
		t.Errorf("the body was changed: %s", r.Body)
	}
	d := service.deposit
	if string(d.Domain) != "hr" || !d.HasTTL || d.TTL != 90*time.Minute || len(d.Fields) != 4 {
		t.Fatalf("deposit %+v", d)
	}
	for i, want := range []FieldValue{
		{Name: []byte("name"), Kind: String, Value: []byte("Ada 😀 \"L\"\n")}, {Name: []byte("address"), Kind: JSON, Value: []byte(`{"a" : [1]}`)},
		{Name: []byte("n"), Kind: JSON, Value: []byte("-1.5")}, {Name: []byte("yes"), Kind: JSON, Value: []byte("true")},
	} {
		if got := d.Fields[i]; got.Kind != want.Kind || !bytes.Equal(got.Name, want.Name) || !bytes.Equal(got.Value, want.Value) {
			t.Errorf("field %d: %q %d %q", i, got.Name, got.Kind, got.Value)
		}
	}
}

// TestRequestForgetsTheOneBefore sends a rich request and a plain one on the
// same server: nothing of the first may show in the second.
func TestRequestForgetsTheOneBefore(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	for range 20 {
		f.do("PUT", sub, `{"fields":{"a":"x","b":"y"},"domain":"hr","ttl":{"a":"1h"}}`, "Idempotency-Key: k", `If-Match: "fe01020304050607"`,
			"Cloakroom-Purpose: p", "Cloakroom-Consistency: linearizable", "Cloakroom-Index: i", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if !service.req.HasIfMatch || service.req.IfMatch != testVersion {
			t.Fatalf("If-Match: %+v", service.req)
		}
		first := service.req.ID
		f.do("PUT", sub, `{"fields":{}}`)
		r, d := service.req, service.deposit
		if r.HasIfMatch || r.HasTrace || r.Level != cloakroom.Lease || len(r.IdempotencyKey)+len(r.Purpose)+len(r.Index) > 0 || r.ID == first {
			t.Fatalf("request %+v", r)
		}
		if d.HasTTL || len(d.Domain)+len(d.Fields)+len(d.TTLs) > 0 {
			t.Fatalf("deposit %+v", d)
		}
		f.do("POST", "/v1/resolve", `{"ids":`+oneID+`,"fields":["a"],"form":"masked","purpose":"p"}`)
		f.do("GET", sub, "")
		if q := service.query; len(q.IDs)+len(q.Fields)+len(q.Form) > 0 {
			t.Fatalf("query %+v", q)
		}
	}
}

func TestTraceparentIsStrict(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if _, ok := parseTrace(good); !ok {
		t.Fatalf("%q is refused", good)
	}
	for _, text := range []string{"", good[1:], good + "-x", "01" + good[2:], "ff" + good[2:], strings.ToUpper(good), strings.Replace(good, "-b7", "_b7", 1),
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", strings.Replace(good, "0a", "-a", 1)} {
		if _, ok := parseTrace(text); ok {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestBatchResults checks the order and the two forms of results.
func TestBatchResults(t *testing.T) {
	f := start(t, new(fakeService))
	a := f.do("POST", "/v1/subjects/batch", `{"subjects":[{"id":"`+testID+`","fields":{}},{"id":"`+testID+`","fields":{}}]}`)
	want := `{"results":[{"id":"` + testID + `","version":"fe01020304050607"},{"id":"` + testID +
		`","problem":{"type":"/problems/memory-full","title":"record memory is full","status":503}}]}`
	if a.status != 200 || a.body != want {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// TestReplyGrows writes far more than was reserved, with values in scratch
// memory that must survive the move.
func TestReplyGrows(t *testing.T) {
	pool := testPool(t)
	ctx := context.Background()
	q := &Query{IDs: randomIDs(50), Fields: [][]byte{[]byte("name")}}
	r, err := NewResolveReply(ctx, pool, q)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"subjects":{`
	name := AppendName(nil, []byte("name"))
	for i, id := range q.IDs {
		value := strings.Repeat("v\"\n", 100*i%4000)
		r.Begin(id)
		if err := r.Value(name, append(r.Scratch(len(value)), value...), false); err != nil {
			t.Fatal(err)
		}
		r.End()
		if i > 0 {
			want += ","
		}
		want += `"` + id.String() + `":{"name":` + string(appendQuoted(nil, []byte(value))) + `}`
	}
	r.Missing(q.IDs[0])
	r.Unavailable(q.IDs[1])
	want += `},"missing":["` + q.IDs[0].String() + `"],"unavailable":["` + q.IDs[1].String() + `"]}`
	got, err := r.Content()
	if err != nil || string(got) != want {
		t.Errorf("content of %d bytes, %v; want %d", len(got), err, len(want))
	}
	r.Release()
	if used := pool.Stats().InUse; used != 0 {
		t.Errorf("%d bytes still in use", used)
	}
}

// TestReplyTooLarge runs into the largest buffer, and the error sticks.
func TestReplyTooLarge(t *testing.T) {
	pool := testPool(t)
	r, err := NewSubjectReply(context.Background(), pool)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	r.Begin(mustID(testID), testVersion)
	value := bytes.Repeat([]byte("x"), pool.MaxBuffer()/3)
	for range 4 {
		err = r.Value([]byte(`"a":`), value, false)
	}
	r.End()
	if _, contentErr := r.Content(); !errors.Is(err, cloakroom.ErrTooLarge) || !errors.Is(contentErr, cloakroom.ErrTooLarge) {
		t.Errorf("got %v and %v", err, contentErr)
	}
	if r.Scratch(pool.MaxBuffer()+1) != nil {
		t.Error("scratch larger than the largest buffer")
	}
}

func TestDeadline(t *testing.T) {
	parent, cancel := context.WithCancel(context.Background())
	d := &deadline{parent: parent, at: time.Now().Add(time.Hour)}
	if at, ok := d.Deadline(); !ok || at != d.at || d.Err() != nil || d.timed != nil {
		t.Errorf("fresh: %v, %v", at, d.Err())
	}
	d.shorten(d.at.Add(time.Hour))
	if at, _ := d.Deadline(); at.After(time.Now().Add(time.Hour)) {
		t.Error("shortened to a later time")
	}
	d.shorten(d.at.Add(-time.Minute))
	if at, _ := d.Deadline(); !at.Before(time.Now().Add(time.Hour - time.Second)) {
		t.Error("not shortened")
	}
	child, stop := context.WithCancel(d)
	defer stop()
	if d.timed == nil || child.Err() != nil {
		t.Error("a child makes the timer")
	}
	cancel()
	<-child.Done()
	if d.Err() == nil {
		t.Error("the parent has ended and the deadline has not")
	}
	d.end()
	past := &deadline{parent: context.Background(), at: time.Now()}
	if err := past.Err(); err != context.DeadlineExceeded {
		t.Errorf("past: %v", err)
	}
	<-past.Done()
	past.end()
	ended := &deadline{parent: parent, at: time.Now().Add(time.Hour)}
	ended.end()
	<-ended.Done() // the parent has ended: a waiter after the request is let go
}

// A read ends before a write would: nobody waits long for a page.
func TestReadsHaveLessTime(t *testing.T) {
	service := new(fakeService)
	f := start(t, service, limits(func(l *Limits) { l.Request, l.Read = time.Hour, time.Minute }))
	f.do("POST", "/v1/resolve", okIDs)
	if service.left > time.Minute || service.left < 50*time.Second {
		t.Errorf("a read had %v", service.left)
	}
	f.do("POST", "/v1/subjects", `{"fields":{"name":"Ada"}}`)
	if service.left > time.Hour || service.left < 50*time.Minute {
		t.Errorf("a write had %v", service.left)
	}
}

// TestNoMemoryIsOverloaded takes all guarded memory away.
func TestNoMemoryIsOverloaded(t *testing.T) {
	f := start(t, new(fakeService), limits(func(l *Limits) { l.Request = 20 * time.Millisecond }))
	pool := testPool(t)
	var taken []interface{ Release() }
	for size := pool.MaxBuffer(); size >= 4<<10; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		buf, err := pool.Get(ctx, size)
		cancel()
		if err != nil {
			size /= 2
			continue
		}
		taken = append(taken, buf)
	}
	a := f.do("POST", "/v1/resolve", okIDs)
	for _, buf := range taken {
		buf.Release()
	}
	checkProblem(t, a, 503, "overloaded")
	// On a busy machine 20 ms are short.
	until(t, "an answer with memory again", func() bool { return f.do("POST", "/v1/resolve", okIDs).status == 200 })
}

func TestNewReportsAllFaults(t *testing.T) {
	_, err := New(Config{Limits: Limits{Connections: -1, Header: -1}})
	if err == nil {
		t.Fatal("an empty config is accepted")
	}
	for _, part := range []string{"service", "pool", "listener", "connections", "time"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func TestFixedAnswers(t *testing.T) {
	service := new(fakeService)
	f := start(t, service, fixedBytes(6700))
	for _, text := range []string{request("POST", "/v1/resolve", "{not json", "Authorization:"), request("GET", sub, "")} {
		if a := f.raw(text); a.status != 200 || a.body != strings.Repeat("x", 6700) || service.calls != 0 {
			t.Errorf("got %d, %d bytes, %d calls", a.status, len(a.body), service.calls)
		}
	}
}

// TestTimesToLive reads one for all fields, one for each named, and those that
// are well formed and for the schema to refuse.
func TestTimesToLive(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "8760h": 8760 * time.Hour, "1h1m1s": time.Hour + time.Minute + time.Second, "876000h": MaxTTL,
		"0s": 0, "-1h": -time.Hour, "-0h": 0, "876001h": MaxTTL + time.Second, "9999999999h9999999999m9999999999s": MaxTTL + time.Second,
	} {
		f.do("PUT", sub, `{"fields":{"a":"x"},"ttl":"`+text+`"}`)
		if ttl, has := service.deposit.TTLOf("a"); !has || ttl != want {
			t.Errorf("%s: got %v %v, want %v", text, ttl, has, want)
		}
	}
	for _, call := range []struct{ method, path string }{{"POST", "/v1/subjects"}, {"PUT", sub}, {"PATCH", sub}} {
		f.do(call.method, call.path, `{"ttl":{"b":"24h","a":"-1s"},"fields":{"a":"x","b":"y","c":"z"}}`)
		d := service.deposit
		a, hasA := d.TTLOf("a")
		b, hasB := d.TTLOf("b")
		if _, hasC := d.TTLOf("c"); !hasA || a != -time.Second || !hasB || b != 24*time.Hour || hasC || d.HasTTL {
			t.Errorf("%s: got %+v", call.method, d)
		}
	}
	f.do("POST", "/v1/subjects/batch", `{"subjects":[{"ttl":{"a":"1h"},"fields":{}},{"fields":{}},{"ttl":{"a":"2h","b":"3h"},"fields":{}}]}`)
	if items := service.items; len(items) != 3 || len(items[0].TTLs) != 1 || len(items[1].TTLs) != 0 || len(items[2].TTLs) != 2 || items[2].TTLs[1].TTL != 3*time.Hour {
		t.Errorf("batch: got %+v", items)
	}
}
