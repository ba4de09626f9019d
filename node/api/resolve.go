package api

import (
	"net/http"
	"strings"

	"cloakroom"
)

// resolve serves POST /v1/resolve.
func (x *exchange) resolve() error {
	purpose := x.req.Purpose
	if err := x.decoder.resolve(x.req.Body, &x.query, &purpose); err != nil {
		return err
	}
	if len(x.req.Purpose) > 0 && string(x.req.Purpose) != string(purpose) {
		return malformed("purpose differs from the header Cloakroom-Purpose")
	}
	x.req.Purpose = purpose
	reply := &x.resolveReply
	if err := reply.prepare(x.ctx, x.server.pool, &x.query); err != nil {
		return err
	}
	if err := x.server.service.Resolve(x.ctx, &x.req, &x.query, reply); err != nil {
		return err
	}
	if _, err := reply.Content(); err != nil {
		return err
	}
	if len(reply.unavailable) > 0 {
		x.w.Header()["Retry-After"] = soon
	}
	return x.send(http.StatusOK, typeJSON, reply.buf)
}

// get serves GET /v1/subjects/{id}.
func (x *exchange) get() error {
	id, err := cloakroom.ParsePseudonym(bytesOf(x.id))
	if err != nil {
		return err
	}
	if err := x.fieldsOfQuery(x.r.URL.RawQuery); err != nil {
		return err
	}
	reply := &x.subjectReply
	if err := reply.begin(x.ctx, x.server.pool, 2<<10, false); err != nil {
		return err
	}
	if err := x.server.service.Get(x.ctx, &x.req, id, &x.query, reply); err != nil {
		return err
	}
	if reply.err != nil {
		return reply.err
	}
	x.setTag(reply.version)
	return x.send(http.StatusOK, typeJSON, reply.buf)
}

// setTag sets the ETag header to a version.
func (x *exchange) setTag(v cloakroom.Version) {
	var room [18]byte
	tag := appendVersion(append(room[:0], '"'), v)
	x.tag[0] = string(append(tag, '"'))
	x.w.Header()["Etag"] = x.tag[:]
}

// fieldsOfQuery reads "fields=a,b", the one parameter there is. Names need no
// escape, so none is decoded: a query string is no place for other text.
func (x *exchange) fieldsOfQuery(query string) error {
	if query == "" {
		return nil
	}
	list, ok := strings.CutPrefix(query, "fields=")
	if !ok || strings.ContainsAny(list, "&%+=;") {
		return malformed("the query string is fields=name,name")
	}
	d := &x.decoder
	d.names = d.names[:0]
	for more := true; more; {
		var name string
		name, list, more = strings.Cut(list, ",")
		if !isWord(bytesOf(name)) || len(d.names) == cloakroom.MaxFields {
			return malformed("fields in the query string are malformed")
		}
		var err error
		if d.names, err = addName(d.names, bytesOf(name)); err != nil {
			return err
		}
	}
	x.query.Fields = d.names
	return nil
}
