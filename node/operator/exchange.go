package operator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	strict "github.com/go-json-experiment/json"

	"cloakroom"
)

// exchange is one request and its answer.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	call   Call
	name   string // in the path
	intent bool   // stands in the record
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.Request)
	defer cancel()
	x := &exchange{server: s, w: w, r: r, ctx: ctx}
	s.cfg.Random(x.call.ID[:])
	found, name, allow := s.find(r)
	if found == nil {
		err := errNoRoute
		if len(allow) > 0 {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			err = errMethod
		}
		x.fail(err)
		return
	}
	x.name, x.call.Name, x.call.Any, x.call.Target = name, found.name, found.any, name
	answer, err := x.serve(found)
	if x.intent || err != nil && len(found.any) > 0 {
		err = x.record(err)
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.answer(answer)
}

// serve takes a request through its gates: who, whether, the record, then what
// it is about. A change is recorded before it is made.
func (x *exchange) serve(found *route) (any, error) {
	if err := x.authorize(found); err != nil {
		return nil, err
	}
	if err := x.shape(found); err != nil {
		return nil, err
	}
	if found.change {
		if err := x.server.cfg.Gate.Record(x.ctx, &x.call, "intent"); err != nil {
			return nil, err
		}
		x.intent = true
	}
	return found.serve(x)
}

// authorize finds the caller and asks whether it may.
func (x *exchange) authorize(found *route) error {
	if len(found.any) == 0 || found.name == "metrics" && x.server.cfg.Open {
		return nil
	}
	token, err := bearer(x.r.Header)
	if err != nil {
		return err
	}
	if x.call.Caller, err = x.server.cfg.Gate.Authenticate(token); err != nil {
		return err
	}
	return x.server.cfg.Gate.Allow(&x.call)
}

// shape refuses what a call has no place for: a body, a query.
func (x *exchange) shape(found *route) error {
	if x.r.URL.RawQuery != "" && !found.query {
		return malformed("this call takes no query")
	}
	if !found.body {
		if x.r.ContentLength != 0 {
			return malformed("this call takes no body")
		}
		return nil
	}
	if kind, _, _ := strings.Cut(x.r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return cloakroom.ErrMediaType
	}
	if x.r.ContentLength > maxBody {
		return cloakroom.ErrTooLarge
	}
	return nil
}

// record writes how a call ended and returns what the caller hears. A change
// whose end cannot be recorded was made all the same.
func (x *exchange) record(err error) error {
	outcome := "ok"
	if err != nil {
		outcome = problemOf(err, x.call.ID).name
	}
	failed := x.server.cfg.Gate.Record(context.WithoutCancel(x.ctx), &x.call, outcome)
	switch {
	case failed == nil:
		return err
	case x.intent && err == nil:
		return cloakroom.ErrOutcomeUnknown
	case err == nil:
		return failed
	}
	return err
}

// decode reads the body into a struct, strictly.
func (x *exchange) decode(into any) error {
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
	if err != nil {
		return malformed("the body did not come to its end")
	}
	if len(body) > maxBody {
		return cloakroom.ErrTooLarge
	}
	if err := strict.Unmarshal(body, into, strict.RejectUnknownMembers(true)); err != nil {
		return malformed("the body is not what this call takes")
	}
	return nil
}

func (x *exchange) answer(value any) {
	switch value := value.(type) {
	case reply:
		x.send(value.status, value.kind, value.body)
	case http.Handler:
		value.ServeHTTP(x.w, x.r)
	case nil:
		x.send(http.StatusOK, "application/json", []byte("{}"))
	default:
		body, err := json.Marshal(value)
		if err != nil {
			x.fail(errors.Join(errInternal, err))
			return
		}
		x.send(http.StatusOK, "application/json", body)
	}
}

func (x *exchange) send(status int, kind string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write(append(body, '\n')) //nolint:errcheck // the caller went away
	}
}

// bearer returns the token of the Authorization header.
func bearer(h http.Header) ([]byte, error) {
	values := h["Authorization"]
	if len(values) != 1 {
		return nil, cloakroom.ErrUnauthenticated
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, cloakroom.ErrUnauthenticated
	}
	return []byte(token), nil
}
