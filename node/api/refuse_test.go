package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloakroom"
)

// problemBody is a problem as a client reads it.
type problemBody struct {
	Type     string
	Title    string
	Status   int
	Detail   string
	Instance string
	Faults   []struct {
		Item   *int
		Field  string
		Reason string
	}
}

// checkProblem checks that a is a problem of this status and name, and that it
// repeats nothing of what was sent.
func checkProblem(t *testing.T, a answer, status int, name string) problemBody {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	if a.status != status || p.Status != status || p.Type != "/problems/"+name {
		t.Errorf("got %d, type %s, status %d, detail %q; want %d, %s", a.status, p.Type, p.Status, p.Detail, status, name)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("cache control %q", got)
	}
	if p.Title == "" || len(p.Instance) != 32 {
		t.Errorf("title %q, instance %q", p.Title, p.Instance)
	}
	if strings.Contains(a.body, marker) || strings.Contains(fmt.Sprint(a.header), marker) {
		t.Errorf("the answer repeats what was sent: %s", a.body)
	}
	return p
}

type refusalCase struct {
	what         string
	method, path string
	body         string
	headers      []string
	status       int
	problem      string
}

const (
	oneID = `["` + testID + `"]`
	okIDs = `{"ids":` + oneID + `,"fields":["name"]}`
	sub   = "/v1/subjects/" + testID

	bySource = "/v1/subjects/by-source"
)

func deepJSON(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

// manyIDs is a resolve of n ids.
func manyIDs(n int) string { return resolveBody(randomIDs(n), `"name"`) }

// bodyCases are bodies that are refused, on the call that reads them.
func bodyCases() []refusalCase {
	return slices.Concat(resolveCases(), writeCases(), sourceCases())
}

func resolveCases() []refusalCase {
	post := func(what, body string, status int, problem string) refusalCase {
		return refusalCase{what, "POST", "/v1/resolve", body, nil, status, problem}
	}
	id := func(what, id string, status int, problem string) refusalCase {
		return post(what, `{"ids":["`+id+`"],"fields":["name"]}`, status, problem)
	}
	return []refusalCase{
		post("malformed JSON", `{"ids":`+oneID+`,"fields":["`+marker, 400, "malformed"),
		post("not JSON", marker, 400, "malformed"),
		post("a stray comma", `{"ids":`+oneID+`,"fields":["name"],}`, 400, "malformed"),
		post("a comment", `{"ids":`+oneID+`/*`+marker+`*/,"fields":["name"]}`, 400, "malformed"),
		post("single quotes", `{'ids':[]}`, 400, "malformed"),
		post("an array", `["`+marker+`"]`, 400, "malformed"),
		post("null", `null`, 400, "malformed"),
		post("only white space", " \n", 400, "malformed"),
		post("ids of the wrong type", `{"ids":"`+marker+`","fields":["name"]}`, 400, "malformed"),
		post("an id of the wrong type", `{"ids":[12],"fields":["name"]}`, 400, "malformed"),
		post("fields of the wrong type", `{"ids":`+oneID+`,"fields":{"`+marker+`":1}}`, 400, "malformed"),
		post("a field of the wrong type", `{"ids":`+oneID+`,"fields":[null]}`, 400, "malformed"),
		post("a form of the wrong type", `{"ids":`+oneID+`,"fields":["name"],"form":1}`, 400, "malformed"),
		post("an unknown member", `{"ids":`+oneID+`,"fields":["name"],"`+marker+`":1}`, 400, "malformed"),
		post("another case of a member", `{"IDS":`+oneID+`,"fields":["name"]}`, 400, "malformed"),
		post("a duplicate member", `{"ids":`+oneID+`,"ids":`+oneID+`,"fields":["name"]}`, 400, "malformed"),
		post("a duplicate member in disguise", `{"ids":`+oneID+`,"fields":["name"],"\u0069ds":`+oneID+`}`, 400, "malformed"),
		post("trailing data", okIDs+marker, 400, "malformed"),
		post("a second text", okIDs+okIDs, 400, "malformed"),
		post("invalid UTF-8", `{"ids":`+oneID+`,"fields":["n`+"\xff"+`"]}`, 400, "malformed"),
		post("an encoded surrogate", `{"ids":`+oneID+`,"fields":["n`+"\xed\xa0\x80"+`"]}`, 400, "malformed"),
		post("a lone high surrogate", `{"ids":`+oneID+`,"fields":["\ud800"]}`, 400, "malformed"),
		post("a lone low surrogate", `{"ids":`+oneID+`,"fields":["\udc00x"]}`, 400, "malformed"),
		post("a NUL", `{"ids":`+oneID+`,"fields":["n`+"\x00"+`"]}`, 400, "malformed"),
		post("an escaped NUL", `{"ids":`+oneID+`,"fields":["n\u0000"]}`, 400, "malformed"),
		post("a control character", `{"ids":`+oneID+`,"fields":["n`+"\n"+`"]}`, 400, "malformed"),
		post("an empty field name", `{"ids":`+oneID+`,"fields":[""]}`, 400, "malformed"),
		post("a long field name", `{"ids":`+oneID+`,"fields":["`+strings.Repeat("n", 65)+`"]}`, 400, "malformed"),
		post("a field twice", `{"ids":`+oneID+`,"fields":["name","name"]}`, 400, "malformed"),
		post("no fields", `{"ids":`+oneID+`}`, 400, "malformed"),
		post("empty fields", `{"ids":`+oneID+`,"fields":[]}`, 400, "malformed"),
		post("no ids", `{"fields":["name"]}`, 400, "malformed"),
		post("0 ids", `{"ids":[],"fields":["name"]}`, 400, "malformed"),
		post("1001 ids", manyIDs(1001), 413, "too-large"),
		post("65 fields", `{"ids":`+oneID+`,"fields":[`+strings.Repeat(`"a",`, 64)+`"b"]}`, 400, "malformed"),
		post("no body", "", 400, "malformed"),
		id("a malformed id", marker, 400, "malformed-id"),
		id("an empty id", "", 400, "malformed-id"),
		id("the nil id", "00000000-0000-0000-0000-000000000000", 400, "malformed-id"),
		id("a braced id", "{"+testID+"}", 400, "malformed-id"),
		id("an urn", "urn:uuid:"+testID, 400, "malformed-id"),
		id("an id without dashes", strings.ReplaceAll(testID, "-", ""), 400, "malformed-id"),
		id("a version 1 id", "0b5d8a3e-8c3f-1a1e-9d7a-0f6f3c1b2a4d", 422, "not-random-id"),
		id("a version 7 id", "0b5d8a3e-8c3f-7a1e-9d7a-0f6f3c1b2a4d", 422, "not-random-id"),
		id("a foreign variant", "0b5d8a3e-8c3f-4a1e-cd7a-0f6f3c1b2a4d", 422, "not-random-id"),
	}
}

func writeCases() []refusalCase {
	deposit := func(what, body string, status int, problem string) refusalCase {
		return refusalCase{what, "POST", "/v1/subjects", body, nil, status, problem}
	}
	fields := func(what, fields string) refusalCase {
		return deposit(what, `{"fields":`+fields+`}`, 400, "malformed")
	}
	return []refusalCase{
		deposit("no fields in a deposit", `{"domain":"default"}`, 400, "malformed"),
		deposit("an id in a deposit", `{"id":"`+testID+`","fields":{"name":"`+marker+`"}}`, 400, "malformed"),
		deposit("a bad ttl", `{"fields":{"name":"`+marker+`"},"ttl":"`+marker+`"}`, 400, "malformed"),
		deposit("an empty ttl", `{"fields":{"name":"`+marker+`"},"ttl":""}`, 400, "malformed"),
		deposit("a ttl of a sign", `{"fields":{"name":"`+marker+`"},"ttl":"-"}`, 400, "malformed"),
		deposit("a ttl that is a number", `{"fields":{"name":"`+marker+`"},"ttl":60}`, 400, "malformed"),
		deposit("a bad ttl of a field", `{"fields":{"name":"`+marker+`"},"ttl":{"name":"`+marker+`"}}`, 400, "malformed"),
		deposit("a field twice in ttl", `{"fields":{"name":"`+marker+`"},"ttl":{"name":"1h","name":"2h"}}`, 400, "malformed"),
		deposit("an empty name in ttl", `{"fields":{"name":"`+marker+`"},"ttl":{"":"1h"}}`, 400, "malformed"),
		deposit("65 fields in ttl", `{"fields":{"name":"`+marker+`"},"ttl":{`+strings.ReplaceAll(members(65), ":1", `:"1h"`)+`}}`, 413, "too-large"),
		deposit("an empty domain", `{"fields":{"name":"`+marker+`"},"domain":""}`, 400, "malformed"),
		deposit("values over 64 KiB", `{"fields":{"name":"`+strings.Repeat("x", 65537)+`"}}`, 413, "too-large"),
		fields("null in a deposit", `{"name":null}`),
		fields("a field twice in a deposit", `{"name":"`+marker+`","name":"x"}`),
		fields("an empty name in a deposit", `{"":"`+marker+`"}`),
		fields("fields that are a list", `["`+marker+`"]`),
		fields("deep nesting", `{"address":`+deepJSON(MaxDepth+1)+`}`),
		fields("very deep nesting", `{"address":`+strings.Repeat("[", 100_000)+`}`),
		fields("a duplicate member in a value", `{"address":{"`+marker+`":1,"`+marker+`":2}}`),
		fields("a bad number", `{"n":01}`),
		fields("a bad literal", `{"n":TRUE}`),
		fields("a bad escape", `{"n":"\x41"}`),
		fields("129 members in a value", `{"a":{`+members(129)+`}}`),
		fields("65 fields in a deposit", `{`+members(65)+`}`).with(413, "too-large"),

		{"an unknown member of a patch", "PATCH", sub, `{"fields":{},"domain":"hr"}`, nil, 400, "malformed"},
		{"no fields in a patch", "PATCH", sub, `{}`, nil, 400, "malformed"},
		{"0 subjects", "POST", "/v1/subjects/batch", `{"subjects":[]}`, nil, 400, "malformed"},
		{"no subjects", "POST", "/v1/subjects/batch", `{}`, nil, 400, "malformed"},
		{"10001 subjects", "POST", "/v1/subjects/batch",
			`{"subjects":[` + strings.Repeat(`{"fields":{}},`, 10_000) + `{"fields":{}}]}`, nil, 413, "too-large"},
		{"a bad id in a batch", "POST", "/v1/subjects/batch",
			`{"subjects":[{"fields":{"name":"` + marker + `"}},{"id":"` + marker + `","fields":{}}]}`, nil, 400, "malformed-id"},
		{"a schema that is no object", "PUT", "/v1/schema", `[]`, nil, 400, "malformed"},
		{"a schema with data after it", "PUT", "/v1/schema", `{}` + marker, nil, 400, "malformed"},
	}
}

func (c refusalCase) with(status int, problem string) refusalCase {
	c.status, c.problem = status, problem
	return c
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":1,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// headerCases are requests that are refused for what is around the body.
func headerCases() []refusalCase {
	const resolve = "/v1/resolve"
	h := func(lines ...string) []string { return lines }
	return []refusalCase{
		{"no token", "POST", resolve, okIDs, h("Authorization:"), 401, "unauthenticated"},
		{"an unknown token", "POST", resolve, okIDs, h("Authorization: Bearer " + marker), 401, "unauthenticated"},
		{"another scheme", "POST", resolve, okIDs, h("Authorization: Basic " + testToken), 401, "unauthenticated"},
		{"an empty token", "POST", resolve, okIDs, h("Authorization: Bearer "), 401, "unauthenticated"},
		{"two tokens", "POST", resolve, okIDs, h("Authorization: Bearer "+testToken, "Authorization: Bearer "+testToken), 401, "unauthenticated"},
		{"a long token", "POST", resolve, okIDs, h("Authorization: Bearer " + strings.Repeat("x", 513)), 401, "unauthenticated"},
		{"no content type", "POST", resolve, okIDs, h("Content-Type:"), 415, "media-type"},
		{"a wrong content type", "POST", resolve, okIDs, h("Content-Type: text/plain"), 415, "media-type"},
		{"a foreign charset", "POST", resolve, okIDs, h("Content-Type: application/json; charset=latin1"), 415, "media-type"},
		{"a patch type on POST", "POST", resolve, okIDs, h("Content-Type: application/merge-patch+json"), 415, "media-type"},
		{"a compressed body", "POST", resolve, okIDs, h("Content-Encoding: gzip"), 415, "media-type"},
		{"a wrong method", "GET", resolve, "", nil, 405, "method-not-allowed"},
		{"another wrong method", "POST", sub, okIDs, nil, 405, "method-not-allowed"},
		{"an unknown method", "BREW", sub, "", nil, 405, "method-not-allowed"},
		{"OPTIONS", "OPTIONS", resolve, "", nil, 405, "method-not-allowed"},
		{"an unknown path", "GET", "/" + marker, "", nil, 404, "no-route"},
		{"an escaped path", "GET", "/v1/%73ubjects/" + testID, "", nil, 404, "no-route"},
		{"an escaped slash", "GET", "/v1/subjects%2f" + testID, "", nil, 404, "no-route"},
		{"a path too long", "GET", sub + "/fields", "", nil, 404, "no-route"},
		{"a slash too many", "POST", resolve + "/", okIDs, nil, 404, "no-route"},
		{"a malformed id in the path", "GET", "/v1/subjects/" + marker, "", nil, 400, "malformed-id"},
		{"a malformed id to erase", "DELETE", "/v1/subjects/" + marker, "", nil, 400, "malformed-id"},
		{"a version 1 id in the path", "PUT", "/v1/subjects/0b5d8a3e-8c3f-1a1e-9d7a-0f6f3c1b2a4d", `{"fields":{}}`, nil, 422, "not-random-id"},
		{"a query string on POST", "POST", resolve + "?name=" + marker, okIDs, nil, 400, "malformed"},
		{"an unknown parameter", "GET", sub + "?name=" + marker, "", nil, 400, "malformed"},
		{"a second parameter", "GET", sub + "?fields=a&b=" + marker, "", nil, 400, "malformed"},
		{"an escape in the query", "GET", sub + "?fields=%61", "", nil, 400, "malformed"},
		{"an empty name in the query", "GET", sub + "?fields=a,,b", "", nil, 400, "malformed"},
		{"a name twice in the query", "GET", sub + "?fields=a,a", "", nil, 400, "malformed"},
		{"a parameter of readyz", "GET", "/readyz?" + marker, "", nil, 400, "malformed"},
		{"a body on GET", "GET", sub, `{"name":"` + marker + `"}`, nil, 400, "malformed"},
		{"a body on DELETE", "DELETE", sub, `{"name":"` + marker + `"}`, nil, 400, "malformed"},
		{"an unknown level", "POST", resolve, okIDs, h("Cloakroom-Consistency: " + marker), 400, "malformed"},
		{"two levels", "POST", resolve, okIDs, h("Cloakroom-Consistency: lease", "Cloakroom-Consistency: lease"), 400, "malformed"},
		{"a malformed purpose", "POST", resolve, okIDs, h("Cloakroom-Purpose: to greet"), 400, "malformed"},
		{"two purposes", "POST", resolve, `{"ids":` + oneID + `,"fields":["name"],"purpose":"a"}`, h("Cloakroom-Purpose: b"), 400, "malformed"},
		{"a long index", "POST", resolve, okIDs, h("Cloakroom-Index: " + strings.Repeat("x", MaxIndexBytes+1)), 400, "malformed"},
		{"an index with a space", "POST", resolve, okIDs, h("Cloakroom-Index: a b"), 400, "malformed"},
		{"a long idempotency key", "POST", "/v1/subjects", `{"fields":{}}`, h("Idempotency-Key: " + strings.Repeat("k", 256)), 400, "malformed"},
		{"an empty idempotency key", "POST", "/v1/subjects", `{"fields":{}}`, h("Idempotency-Key: "), 400, "malformed"},
		{"two idempotency keys", "POST", "/v1/subjects", `{"fields":{}}`, h("Idempotency-Key: a", "Idempotency-Key: b"), 400, "malformed"},
		{"a bare If-Match", "PUT", sub, `{"fields":{}}`, h("If-Match: fe01020304050607"), 400, "malformed"},
		{"a weak If-Match", "PUT", sub, `{"fields":{}}`, h(`If-Match: W/"fe01020304050607"`), 400, "malformed"},
		{"any If-Match", "PATCH", sub, `{"fields":{}}`, h(`If-Match: *`), 400, "malformed"},
		{"If-Match on POST", "POST", "/v1/subjects", `{"fields":{}}`, h(`If-Match: "fe01020304050607"`), 400, "malformed"},
		{"If-Match on the schema", "PUT", "/v1/schema", `{"epoch":1,"fields":[]}`, h(`If-Match: "fe01020304050607"`), 400, "malformed"},
		{"If-None-Match", "PUT", sub, `{"fields":{}}`, h(`If-None-Match: *`), 400, "malformed"},
		{"trailers", "POST", resolve, "5\r\n[null\r\n0\r\nX-A: b\r\n\r\n", h("Transfer-Encoding: chunked", "Trailer: X-A"), 400, "malformed"},
		{"a body over the limit", "POST", resolve, strings.Repeat(" ", MaxResolveBytes) + okIDs, nil, 413, "too-large"},
		{"a body far over the limit", "POST", resolve, "", h("Content-Type: application/json", "Content-Length: 99999999"), 413, "too-large"},
		{"a chunked body over the limit", "POST", resolve, chunked(strings.Repeat(" ", MaxResolveBytes)+okIDs, 8000), h("Transfer-Encoding: chunked"), 413, "too-large"},
	}
}

func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// TestRefused sends everything that must be refused: the right problem comes
// back, nothing of the request does, and the service is not asked.
func TestRefused(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	for _, c := range append(bodyCases(), headerCases()...) {
		t.Run(c.what, func(t *testing.T) {
			headers := c.headers
			if c.body == "" && (c.method == "POST" || c.method == "PUT") && headers == nil {
				headers = []string{"Content-Type: application/json"}
			}
			a := f.do(c.method, c.path, c.body, headers...)
			checkProblem(t, a, c.status, c.problem)
			if c.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if c.status == 401 && a.header.Get("Www-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate header")
			}
			if service.calls != 0 {
				t.Error("the service was called")
				service.calls = 0
			}
		})
	}
	if strings.Contains(f.log.String(), marker) {
		t.Error("the log holds what was sent")
	}
}

// TestServiceErrors maps every error of the vocabulary to its problem.
func TestServiceErrors(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	for _, p := range problems {
		service.err = fmt.Errorf("resolve: %w", p.err)
		a := f.do("POST", "/v1/resolve", okIDs)
		checkProblem(t, a, p.status, p.name)
		if retry := a.header.Get("Retry-After"); (p.status == 429 || p.status == 503) != (retry != "") {
			t.Errorf("%s: Retry-After %q", p.name, retry)
		}
	}
	service.err = errors.New("disk on fire")
	a := f.do("POST", "/v1/resolve", okIDs)
	p := checkProblem(t, a, 500, "internal")
	if strings.Contains(a.body, "fire") || !strings.Contains(f.log.String(), "disk on fire") || !strings.Contains(f.log.String(), p.Instance) {
		t.Errorf("a cause belongs to the log, with the request id, and not to the answer: %s; %s", a.body, f.log)
	}
}

// TestEverySentinelHasAProblem fails when the vocabulary grows past the
// catalogue. The list is closed by hand: errors cannot be enumerated.
func TestEverySentinelHasAProblem(t *testing.T) {
	for _, err := range []error{
		cloakroom.ErrMalformed, cloakroom.ErrMalformedID, cloakroom.ErrUnauthenticated, cloakroom.ErrDenied,
		cloakroom.ErrPurpose, cloakroom.ErrNotFound, cloakroom.ErrErased, cloakroom.ErrConflict, cloakroom.ErrVersion,
		cloakroom.ErrTooLarge, cloakroom.ErrMediaType, cloakroom.ErrSchema, cloakroom.ErrNotRandomID,
		cloakroom.ErrIdempotency, cloakroom.ErrRate, cloakroom.ErrSealed, cloakroom.ErrStarting,
		cloakroom.ErrOverloaded, cloakroom.ErrMemoryFull, cloakroom.ErrUnavailable, cloakroom.ErrDirectoryStale,
		cloakroom.ErrAuditUnavailable, cloakroom.ErrOutcomeUnknown, cloakroom.ErrStaleSchema,
	} {
		if p := problemOf(err); p.name == "internal" {
			t.Errorf("%v has no problem type", err)
		}
	}
}

func TestFaultsAreNamed(t *testing.T) {
	service := &fakeService{err: fmt.Errorf("deposit: %w", cloakroom.Faults{
		{Item: 3, Field: "email", Reason: "not an e-mail address"}, {Item: -1, Reason: "unknown field"}})}
	f := start(t, service)
	p := checkProblem(t, f.do("POST", "/v1/subjects/batch", `{"subjects":[{"fields":{"email":"`+marker+`"}}]}`), 422, "schema")
	if len(p.Faults) != 2 || *p.Faults[0].Item != 3 || p.Faults[0].Field != "email" || p.Faults[1].Item != nil {
		t.Errorf("faults %+v", p.Faults)
	}
}

func TestPanicIsInternal(t *testing.T) {
	service := &fakeService{panicNow: true}
	f := start(t, service)
	a := f.do("POST", "/v1/resolve", okIDs)
	checkProblem(t, a, 500, "internal")
	if !a.close || strings.Contains(f.log.String(), marker) {
		t.Errorf("after a panic the connection ends and the log keeps quiet: close %v, %s", a.close, f.log)
	}
}
