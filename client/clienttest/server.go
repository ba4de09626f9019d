// Package clienttest is a stand-in for a Cloakroom server, for tests of what
// calls one. It keeps subjects in a map, checks no more than the callers need
// to see refused, and lets a test break any request.
package clienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"unicode/utf8"

	"cloakroom"
)

// Token is the one bearer token a [Server] knows.
const Token = "test-token"

// Server is an HTTP server that follows the API.
type Server struct {
	*httptest.Server

	mu       sync.Mutex
	subjects map[cloakroom.Pseudonym]*Subject
	replays  map[string]replay // :: Idempotency-Key → first answer
	sources  map[source]cloakroom.Pseudonym
	requests []Request
	limit    int
	hook     func(w http.ResponseWriter, r *http.Request) bool
	drawn    uint64
}

// Subject is what the server holds about one pseudonym.
type Subject struct {
	Version string
	Domain  string
	Fields  map[string]json.RawMessage
	Erased  bool
	Writes  int // how often it was written
}

// Request is what the server saw of one request.
type Request struct {
	Method, Path, Key string
	Header            http.Header
	Body              []byte
}

type replay struct {
	body   string
	status int
	answer any
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	s := New()
	t.Cleanup(s.Close)
	return s
}

// New runs a server until its Close.
func New() *Server {
	s := &Server{
		subjects: map[cloakroom.Pseudonym]*Subject{},
		replays:  map[string]replay{},
		sources:  map[source]cloakroom.Pseudonym{},
		limit:    16 << 20,
	}
	s.Server = httptest.NewServer(s.handler())
	return s
}

// LimitBody makes every larger body a 413.
func (s *Server) LimitBody(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = bytes
}

// Hook makes f see every request first; it returns true if it answered.
func (s *Server) Hook(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Subjects returns a copy of what is stored.
func (s *Server) Subjects() map[cloakroom.Pseudonym]Subject {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[cloakroom.Pseudonym]Subject, len(s.subjects))
	for id, subject := range s.subjects {
		all[id] = *subject
	}
	return all
}

// Requests returns what was asked so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Problem answers with a problem document.
func Problem(w http.ResponseWriter, status int, name string, faults ...map[string]any) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(problem(status, name, faults...))
}

func problem(status int, name string, faults ...map[string]any) map[string]any {
	p := map[string]any{
		"type": "/problems/" + name, "title": name, "status": status,
		"detail": "the test server says " + name, "instance": "req-1",
	}
	if len(faults) > 0 {
		p["faults"] = faults
	}
	return p
}

// fieldTypes is the schema of `cloakroom dev`.
var fieldTypes = [][2]string{
	{"display_name", "text"}, {"email", "email"}, {"phone", "phone"},
	{"birth_date", "date"}, {"national_id", "text"}, {"address", "json"},
}

// maxValue is the max_bytes of every field.
const maxValue = 4096

func schema() map[string]any {
	var fields []map[string]any
	for i, f := range fieldTypes {
		fields = append(fields, map[string]any{"number": i + 2, "name": f[0], "type": f[1], "max_bytes": maxValue})
	}
	return map[string]any{"epoch": 1, "fields": fields}
}

// fault says why a value does not fit, or "".
func fault(name string, raw json.RawMessage) string {
	for _, f := range fieldTypes {
		if f[0] != name {
			continue
		}
		var text string
		switch err := json.Unmarshal(raw, &text); {
		case f[1] == "json":
			return ""
		case err != nil || text == "":
			return "want a text that is not empty"
		case len(text) > maxValue || !utf8.ValidString(text):
			return "too long"
		case f[1] == "date" && len(text) != len("2006-01-02"):
			return "want a date such as 2006-01-02"
		}
		return ""
	}
	return "no such field"
}

// id draws a pseudonym. The caller holds mu.
func (s *Server) id() cloakroom.Pseudonym {
	s.drawn++
	id, _ := cloakroom.ParsePseudonym(fmt.Appendf(nil, "00000000-0000-4000-8000-%012x", s.drawn))
	return id
}

// version draws a version. The caller holds mu.
func (s *Server) version() string {
	s.drawn++
	return fmt.Sprintf("%016x", s.drawn)
}
