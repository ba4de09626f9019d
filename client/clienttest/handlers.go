package clienttest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"cloakroom"
)

type deposit struct {
	ID     string                     `json:"id"`
	Domain string                     `json:"domain"`
	TTL    json.RawMessage            `json:"ttl"`
	Fields map[string]json.RawMessage `json:"fields"`
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/subjects", s.post)
	mux.HandleFunc("POST /v1/subjects/batch", s.batch)
	mux.HandleFunc("PUT /v1/subjects/{id}", s.put)
	mux.HandleFunc("PUT /v1/subjects/by-source", s.upsert)
	mux.HandleFunc("PATCH /v1/subjects/{id}", s.patch)
	mux.HandleFunc("GET /v1/subjects/{id}", s.get)
	mux.HandleFunc("DELETE /v1/subjects/{id}", s.erase)
	mux.HandleFunc("POST /v1/resolve", s.resolve)
	mux.HandleFunc("GET /v1/schema", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, schema()) })
	mux.HandleFunc("PUT /v1/schema", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, schema()) })
	mux.HandleFunc("GET /v1/keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"keys": []any{}}) })
	mux.HandleFunc("GET /v1/sys/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"state": "unsealed", "shards": []any{map[string]any{"id": 0, "leader": true}}})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) })
	return s.front(mux)
}

// front records the request, lets the hook have it, and authenticates.
func (s *Server) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Clone(), body})
		hook, limit := s.hook, s.limit
		s.mu.Unlock()
		switch {
		case hook != nil && hook(w, r):
		case len(body) > limit:
			Problem(w, http.StatusRequestEntityTooLarge, "too-large")
		case r.Header.Get("Authorization") != "Bearer "+Token && r.URL.Path != "/readyz":
			Problem(w, http.StatusUnauthorized, "unauthenticated")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	body, _ := json.Marshal(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cloakroom-Index", "1-1-1")
	w.WriteHeader(status)
	w.Write(body)
}

// decode reads a body strictly.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if d.Decode(v) != nil {
		Problem(w, http.StatusBadRequest, "malformed")
		return false
	}
	return true
}

// once answers a repeated Idempotency-Key with the first answer. It reports
// whether it answered. The caller holds mu.
func (s *Server) once(w http.ResponseWriter, key, body string) bool {
	first, ok := s.replays[key]
	switch {
	case !ok || key == "":
		return false
	case first.body != body:
		Problem(w, http.StatusUnprocessableEntity, "idempotency")
	default:
		answer(w, first.status, first.answer)
	}
	return true
}

func (s *Server) remember(w http.ResponseWriter, key, body string, status int, v any) {
	s.replays[key] = replay{body, status, v}
	answer(w, status, v)
}

func faults(item int, d *deposit) (list []map[string]any) {
	for name, raw := range d.Fields {
		if reason := fault(name, raw); reason != "" {
			list = append(list, map[string]any{"item": item, "field": name, "reason": reason})
		}
	}
	return list
}

// store writes a subject. The caller holds mu.
func (s *Server) store(id cloakroom.Pseudonym, d *deposit) (status int, version string) {
	old := s.subjects[id]
	if old != nil && old.Erased {
		return http.StatusConflict, ""
	}
	status, writes := http.StatusCreated, 1
	if old != nil {
		status, writes = http.StatusOK, old.Writes+1
	}
	s.subjects[id] = &Subject{Version: s.version(), Domain: d.Domain, Fields: d.Fields, Writes: writes}
	return status, s.subjects[id].Version
}

func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var d deposit
	if !decode(w, r, &d) {
		return
	}
	if list := faults(-1, &d); len(list) > 0 {
		Problem(w, http.StatusUnprocessableEntity, "schema", list...)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if s.once(w, key, string(body)) {
		return
	}
	id := s.id()
	status, version := s.store(id, &d)
	s.remember(w, key, string(body), status, map[string]any{"id": id.String(), "version": version})
}

func (s *Server) batch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var batch struct {
		Subjects []deposit `json:"subjects"`
	}
	if !decode(w, r, &batch) {
		return
	}
	var all []map[string]any
	ids := make([]cloakroom.Pseudonym, len(batch.Subjects))
	for i := range batch.Subjects {
		d := &batch.Subjects[i]
		all = append(all, faults(i, d)...)
		if d.ID != "" {
			var err error
			if ids[i], err = cloakroom.ParsePseudonym([]byte(d.ID)); err != nil {
				all = append(all, map[string]any{"item": i, "reason": "not a version-4 UUID"})
			}
		}
	}
	if len(all) > 0 {
		Problem(w, http.StatusUnprocessableEntity, "schema", all...)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if s.once(w, key, string(body)) {
		return
	}
	s.remember(w, key, string(body), http.StatusOK, map[string]any{"results": s.storeAll(ids, batch.Subjects)})
}

type result struct {
	ID      string `json:"id"`
	Version string `json:"version,omitempty"`
	Problem any    `json:"problem,omitempty"`
}

// storeAll writes a batch. The caller holds mu.
func (s *Server) storeAll(ids []cloakroom.Pseudonym, deposits []deposit) []result {
	results := make([]result, len(ids))
	for i, id := range ids {
		if id == (cloakroom.Pseudonym{}) {
			id = s.id()
		}
		results[i].ID = id.String()
		status, version := s.store(id, &deposits[i])
		if status == http.StatusConflict {
			results[i].Problem = problem(status, "erased")
		}
		results[i].Version = version
	}
	return results
}

// pathID reads the id of the path.
func pathID(w http.ResponseWriter, r *http.Request) (cloakroom.Pseudonym, bool) {
	id, err := cloakroom.ParsePseudonym([]byte(r.PathValue("id")))
	if err != nil {
		Problem(w, http.StatusBadRequest, "malformed-id")
	}
	return id, err == nil
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	var d deposit
	if !ok || !decode(w, r, &d) {
		return
	}
	if list := faults(-1, &d); len(list) > 0 {
		Problem(w, http.StatusUnprocessableEntity, "schema", list...)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status, version := s.store(id, &d)
	if status == http.StatusConflict {
		Problem(w, status, "erased")
		return
	}
	answer(w, status, map[string]any{"id": id.String(), "version": version})
}

// upsert keeps a subject for each source and domain; that those of one person
// are one, it leaves out.
func (s *Server) upsert(w http.ResponseWriter, r *http.Request) {
	var d struct {
		source
		deposit
	}
	if !decode(w, r, &d) {
		return
	}
	if d.Issuer == "" || d.Subject == "" {
		Problem(w, http.StatusBadRequest, "malformed")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.source.domain = d.Domain
	id, known := s.sources[d.source]
	if !known {
		id = s.id()
		s.sources[d.source] = id
	}
	status, version := s.store(id, &d.deposit)
	answer(w, status, map[string]any{"id": id.String(), "version": version})
}

type source struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	domain  string
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	var d deposit
	if !ok || !decode(w, r, &d) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	subject := s.subjects[id]
	match := r.Header.Get("If-Match")
	switch {
	case subject == nil || subject.Erased:
		Problem(w, http.StatusNotFound, "not-found")
		return
	case match != "" && match != `"`+subject.Version+`"`:
		Problem(w, http.StatusPreconditionFailed, "version")
		return
	}
	for name, raw := range d.Fields {
		if string(raw) == "null" {
			delete(subject.Fields, name)
		} else {
			subject.Fields[name] = raw
		}
	}
	subject.Version = s.version()
	answer(w, http.StatusOK, map[string]any{"id": id.String(), "version": subject.Version})
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	subject := s.subjects[id]
	if subject == nil || subject.Erased {
		Problem(w, http.StatusNotFound, "not-found")
		return
	}
	var names []string
	if query := r.URL.RawQuery; query != "" {
		list, ok := strings.CutPrefix(query, "fields=")
		if !ok || strings.ContainsAny(list, "&%+=;") { // as strict as a node
			Problem(w, http.StatusBadRequest, "malformed")
			return
		}
		names = strings.Split(list, ",")
	}
	answer(w, http.StatusOK, map[string]any{"id": id.String(), "version": subject.Version, "fields": subject.only(names)})
}

// only returns the named fields, or all if none is named.
func (s *Subject) only(names []string) map[string]json.RawMessage {
	if names == nil {
		return s.Fields
	}
	some := map[string]json.RawMessage{}
	for _, name := range names {
		if raw, ok := s.Fields[name]; ok {
			some[name] = raw
		}
	}
	return some
}

func (s *Server) erase(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	subject := s.subjects[id]
	if subject == nil {
		Problem(w, http.StatusNotFound, "not-found")
		return
	}
	subject.Erased, subject.Fields = true, nil
	answer(w, http.StatusOK, map[string]any{"id": id.String(), "erased_at": "2026-01-01T00:00:00Z"})
}

func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		IDs     []string `json:"ids"`
		Fields  []string `json:"fields"`
		Form    string   `json:"form"`
		Purpose string   `json:"purpose"`
	}
	if !decode(w, r, &q) {
		return
	}
	if len(q.IDs) > cloakroom.MaxResolveIDs || len(q.Fields) == 0 {
		Problem(w, http.StatusBadRequest, "malformed")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	subjects, missing := map[string]any{}, []string{}
	for _, text := range q.IDs {
		id, err := cloakroom.ParsePseudonym([]byte(text))
		if err != nil {
			Problem(w, http.StatusBadRequest, "malformed-id")
			return
		}
		if subject := s.subjects[id]; subject == nil || subject.Erased {
			missing = append(missing, text)
		} else {
			subjects[text] = subject.only(q.Fields)
		}
	}
	answer(w, http.StatusOK, map[string]any{"subjects": subjects, "missing": missing})
}
