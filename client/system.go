package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// Schema is the declared fields and their rules.
type Schema struct {
	Epoch  uint32        `json:"epoch"`
	Fields []SchemaField `json:"fields"`
}

// SchemaField is one declared field. Members the server adds later are
// ignored.
type SchemaField struct {
	Number       uint16          `json:"number,omitempty"`
	Name         string          `json:"name"`
	Type         string          `json:"type"` // text, email, phone, date, json, sealed
	Purposes     []string        `json:"purposes,omitempty"`
	MaxRetention json.RawMessage `json:"max_retention,omitempty"`
	MaxBytes     int             `json:"max_bytes,omitempty"` // 0: the type's own limit
	Retired      bool            `json:"retired,omitempty"`
}

// Schema reads the schema.
func (c *Client) Schema(ctx context.Context) (Schema, error) {
	raw, err := c.SchemaJSON(ctx)
	if err != nil {
		return Schema{}, err
	}
	var s Schema
	return s, decode("read schema", raw, &s)
}

// SchemaJSON reads the schema as the server wrote it.
func (c *Client) SchemaJSON(ctx context.Context) (json.RawMessage, error) {
	return c.read(ctx, "read schema", "/v1/schema")
}

// SetSchema puts a schema document in force and returns what the server made
// of it.
func (c *Client) SetSchema(ctx context.Context, document json.RawMessage) (json.RawMessage, error) {
	answer, err := c.do(ctx, &call{verb: "apply schema", method: http.MethodPut, path: "/v1/schema", body: document})
	if err != nil {
		return nil, err
	}
	return answer.body, nil
}

// Status reads the operator's view of the node, a JSON document.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	return c.read(ctx, "read status", "/v1/sys/status")
}

// Keys reads the public signing keys, present and past, a JSON document.
func (c *Client) Keys(ctx context.Context) (json.RawMessage, error) {
	return c.read(ctx, "read keys", "/v1/keys")
}

// Ready asks whether this node can answer. The error matches
// [cloakroom.ErrSealed] or [cloakroom.ErrStarting] if it can't yet.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.read(ctx, "ask for readiness", "/readyz")
	return err
}

func (c *Client) read(ctx context.Context, verb, path string) (json.RawMessage, error) {
	answer, err := c.do(ctx, &call{verb: verb, method: http.MethodGet, path: path, repeat: true})
	if err != nil {
		return nil, err
	}
	return answer.body, nil
}
