package api

import (
	"bytes"
	"net/http"
)

// sendJSON sends what the service encoded; it holds no values.
func (x *exchange) sendJSON(content []byte) error {
	return x.sendPlain(http.StatusOK, typeJSON, append(x.begin(), content...))
}

// schema serves GET /v1/schema.
func (x *exchange) schema() error {
	content, err := x.server.service.Schema(x.ctx, &x.req)
	if err != nil {
		return err
	}
	return x.sendJSON(content)
}

// setSchema serves PUT /v1/schema.
func (x *exchange) setSchema() error {
	if x.req.HasIfMatch {
		return malformed("header If-Match is not for the schema, whose epoch stands in the body")
	}
	if err := x.decoder.whole(x.req.Body); err != nil {
		return err
	}
	content, err := x.server.service.SetSchema(x.ctx, &x.req, x.req.Body)
	if err != nil {
		return err
	}
	return x.sendJSON(content)
}

// keys serves GET /v1/keys.
func (x *exchange) keys() error { return x.sendJSON(x.server.service.PublicKeys()) }

// status serves GET /v1/sys/status.
func (x *exchange) status() error {
	content, err := x.server.service.Status(x.ctx, &x.req)
	if err != nil {
		return err
	}
	return x.sendJSON(content)
}

// livez serves GET /livez: the process answers.
func (x *exchange) livez() error { return x.sendJSON([]byte(`{"live":true}`)) }

// readyz serves GET /readyz and /readyz?verbose.
func (x *exchange) readyz() error {
	query := x.r.URL.RawQuery
	if query != "" && query != "verbose" {
		return malformed("the query string is verbose")
	}
	content, err := x.server.service.Ready(query != "")
	if err != nil {
		return err
	}
	if len(content) == 0 {
		content = []byte(`{"ready":true}`)
	}
	return x.sendJSON(content)
}

// metrics serves GET /metrics to whom the service lets see them.
func (x *exchange) metrics() error {
	handler, err := x.server.service.Metrics(x.ctx, &x.req)
	if err != nil {
		return err
	}
	page := capture{header: make(http.Header), status: http.StatusOK}
	handler.ServeHTTP(&page, x.r)
	contentType := page.header["Content-Type"]
	if contentType == nil {
		contentType = []string{"text/plain; charset=utf-8"}
	}
	if encoding := page.header["Content-Encoding"]; encoding != nil {
		x.w.Header()["Content-Encoding"] = encoding
	}
	return x.sendPlain(page.status, contentType, append(x.begin(), page.body.Bytes()...))
}

// capture takes a page of another handler, so that every answer leaves the
// server on one path.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *capture) Header() http.Header         { return c.header }
func (c *capture) WriteHeader(status int)      { c.status = status }
func (c *capture) Write(p []byte) (int, error) { return c.body.Write(p) }
