package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

const openapiFile = "../../docs/openapi.yaml"

func loadAPI(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	data, err := os.ReadFile(openapiFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	// The library knows the format only with a validator of ours.
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewCallbackValidator(func(text string) error {
		_, err := slowUUID(text)
		return err
	}))
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.RegisteredBodyDecoder("text/plain"))
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

func slowUUID(text string) (string, error) {
	if strings.Count(text, "-") != 4 || len(text) != 36 {
		return "", io.ErrUnexpectedEOF
	}
	return text, nil
}

// conform checks an exchange against the description: the answer always, the
// request only as far as fits is concerned.
func conform(t *testing.T, router routers.Router, method, path, body string, headers []string, a answer, fits bool) {
	t.Helper()
	target, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Method: method, URL: target, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	req.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ":")
		req.Header.Set(name, strings.TrimSpace(value))
	}
	route, params, err := router.FindRoute(req)
	if err != nil {
		if a.status != 404 && a.status != 405 {
			t.Errorf("%s %s is not described, and answers %d", method, path, a.status)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, QueryParams: target.Query(),
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateRequest(context.Background(), input); (err == nil) != fits {
		t.Errorf("%s %s: the description says of the request: %v; want it to fit: %v", method, path, err, fits)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: a.status, Header: a.header,
		Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Options: input.Options}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Errorf("%s %s answers %d: %v\n%s", method, path, a.status, err, a.body)
	}
}

// fakeReceipt has the shape of a receipt; a node's own is held to the
// description in package node.
const fakeReceipt = `{"receipt":{"format":1,"cluster":"00112233445566778899aabbccddeeff","id":"` + testID + `","erased":"2026-01-02T03:04:05Z",` +
	`"version":"0011223344556677","statement":"no longer served"},"signed":"e30=","signature":"AA==","key":"0011223344556677"}`

type goodCall struct {
	method, path, body string
	headers            []string
	status             int
}

func goodCalls() []goodCall {
	return []goodCall{
		{"POST", "/v1/subjects", `{"domain":"default","fields":{"name":"Ada","address":{"street":"x"}},"ttl":"8760h"}`, []string{"Idempotency-Key: k1"}, 201},
		{"POST", "/v1/subjects/batch", `{"subjects":[{"id":"` + testID + `","fields":{"name":"Ada"}},{"id":"` + testID + `","fields":{}}]}`, nil, 200},
		{"PUT", sub, `{"fields":{"name":"Ada"}}`, []string{`If-Match: "fe01020304050607"`}, 200},
		{"PUT", bySource, `{"issuer":"https://login.example.org","subject":"248289761001","domain":"shop","fields":{"name":"Ada"},"ttl":"8760h"}`, []string{"Idempotency-Key: k1"}, 200},
		{"PATCH", sub, `{"fields":{"name":null,"email":"a@b.example"}}`, nil, 200},
		{"PATCH", sub, `{"fields":{"name":"Ada"},"ttl":{"name":"24h"}}`, nil, 200},
		{"PATCH", sub, `{"fields":{}}`, []string{"Content-Type: application/merge-patch+json"}, 200},
		{"GET", sub, "", nil, 200},
		{"GET", sub + "?fields=name,email", "", []string{"Cloakroom-Consistency: linearizable", "Cloakroom-Index: abc"}, 200},
		{"DELETE", sub, "", nil, 200},
		{"POST", "/v1/resolve", `{"ids":["` + testID + `","` + testID + `"],"fields":["name"],"form":"masked","purpose":"support"}`, nil, 200},
		{"POST", "/v1/resolve", manyIDs(1000), []string{"Cloakroom-Purpose: support"}, 200},
		{"GET", "/v1/events", "", []string{"Last-Event-ID: abc"}, 200},
		{"GET", "/v1/events?cursor=abc", "", nil, 200},
		{"GET", "/v1/schema", "", nil, 200},
		{"PUT", "/v1/schema", `{"fields":[]}`, nil, 200},
		{"GET", "/v1/keys", "", nil, 200},
		{"GET", "/v1/sys/status", "", nil, 200},
		{"GET", "/livez", "", nil, 200},
		{"GET", "/readyz", "", nil, 200},
		{"GET", "/readyz?verbose", "", nil, 200},
		{"GET", "/metrics", "", nil, 200},
	}
}

// TestOpenAPI holds the server to its description: every operation with a good
// request, every refusal, every problem.
func TestOpenAPI(t *testing.T) {
	doc, router := loadAPI(t)
	service := &fakeService{receipt: []byte(fakeReceipt), values: map[string]string{"name": "Ada"}}
	f := start(t, service)
	called := make(map[string]bool)
	for _, c := range goodCalls() {
		a := f.do(c.method, c.path, c.body, c.headers...)
		if a.status != c.status {
			t.Errorf("%s %s: %d %s; want %d", c.method, c.path, a.status, a.body, c.status)
		}
		conform(t, router, c.method, c.path, c.body, c.headers, a, true)
		path, _, _ := strings.Cut(c.path, "?")
		called[c.method+" "+strings.Replace(path, testID, "{id}", 1)] = true
	}
	service.created = true
	conform(t, router, "PUT", sub, `{"fields":{}}`, nil, f.do("PUT", sub, `{"fields":{}}`), true)
	created := `{"fields":{},"subject":"s","issuer":"i"}`
	conform(t, router, "PUT", bySource, created, nil, f.do("PUT", bySource, created), true)
	service.missing = true
	conform(t, router, "POST", "/v1/resolve", okIDs, nil, f.do("POST", "/v1/resolve", okIDs), true)
	service.missing, service.lost = false, true
	a := f.do("POST", "/v1/resolve", okIDs)
	conform(t, router, "POST", "/v1/resolve", okIDs, nil, a, true)
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"unavailable":["`+testID+`"]`) {
		t.Errorf("unavailable ids: %+v", a)
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !called[method+" "+path] {
				t.Errorf("%s %s is described and not tested", method, path)
			}
		}
	}
}

// TestOpenAPIOfRefusals holds every refused request to the description. Which
// requests fit cannot be said for all: JSON Schema does not see duplicates.
func TestOpenAPIOfRefusals(t *testing.T) {
	_, router := loadAPI(t)
	f := start(t, new(fakeService))
	for _, c := range append(bodyCases(), headerCases()...) {
		if c.status == 404 || c.status == 405 || c.body == "" && c.method == "POST" {
			continue
		}
		a := f.do(c.method, c.path, c.body, c.headers...)
		target, err := url.Parse(c.path)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: c.method, URL: target, Header: make(http.Header)}
		route, params, err := router.FindRoute(req)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		options := &openapi3filter.Options{IncludeResponseStatus: true}
		out := &openapi3filter.ResponseValidationInput{Status: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)), Options: options,
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options}}
		if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestOpenAPIRefusesToo checks that the description itself refuses what the
// server refuses, where JSON Schema can tell.
func TestOpenAPIRefusesToo(t *testing.T) {
	_, router := loadAPI(t)
	f := start(t, new(fakeService))
	can := []string{"a malformed id", "an empty id", "the nil id", "a braced id", "an urn", "a version 1 id", "a version 7 id", "a foreign variant",
		"1001 ids", "0 ids", "no ids", "no fields", "empty fields", "an unknown member", "a field twice", "an empty field name", "a long field name",
		"ids of the wrong type", "null in a deposit", "a bad ttl", "an empty ttl", "a bad ttl of a field", "an id in a deposit", "an empty domain", "10001 subjects", "0 subjects",
		"an unknown level", "a malformed id in the path", "a long idempotency key", "a weak If-Match", "an escaped NUL",
		"no issuer", "no subject", "an empty issuer", "an empty subject", "a long issuer", "a long subject", "a subject of the wrong type"}
	tried := 0
	for _, c := range append(bodyCases(), headerCases()...) {
		if slices.Contains(can, c.what) {
			tried++
			conform(t, router, c.method, c.path, c.body, c.headers, f.do(c.method, c.path, c.body, c.headers...), false)
		}
	}
	if tried != len(can) {
		t.Errorf("tried %d of %d", tried, len(can))
	}
}

// TestOpenAPIKnowsTheProblems compares the catalogue with the description.
func TestOpenAPIKnowsTheProblems(t *testing.T) {
	doc, _ := loadAPI(t)
	var got, want []string
	for _, name := range doc.Components.Schemas["ProblemType"].Value.Enum {
		got = append(got, name.(string))
	}
	for _, p := range append(problems[:], problem{name: "internal"}) {
		want = append(want, "/problems/"+p.name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("described: %v\nthere are: %v", got, want)
	}
}

// TestOpenAPIKnowsTheResources checks that what is routed is described.
func TestOpenAPIKnowsTheResources(t *testing.T) {
	doc, _ := loadAPI(t)
	f := start(t, new(fakeService))
	for path, item := range doc.Paths.Map() {
		var methods []string
		for method := range item.Operations() {
			methods = append(methods, method)
		}
		slices.Sort(methods)
		a := f.do("BREW", strings.Replace(path, "{id}", testID, 1), "")
		if got, want := a.header.Get("Allow"), strings.Join(methods, ", "); got != want {
			t.Errorf("%s allows %q; described: %q", path, got, want)
		}
	}
}
