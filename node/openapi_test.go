package node_test

import (
	"crypto/ed25519"
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestDocumentsAreAsDescribed holds what this room writes itself to the
// description; the front door is held to it in node/api.
func TestDocumentsAreAsDescribed(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, nil)
	d := h.deposit(ada)
	retire := `{"epoch":1,"fields":[{"name":"nick","type":"text","max_retention":"24h","purposes":["display"]}]}`
	for _, c := range []struct{ schema, method, path, body string }{
		{"Schema", "GET", "/v1/schema", ""},
		{"Schema", "PUT", "/v1/schema", retire},
		{"Keys", "GET", "/v1/keys", ""},
		{"Status", "GET", "/v1/sys/status", ""},
		{"Ready", "GET", "/readyz", ""},
		{"Ready", "GET", "/readyz?verbose", ""},
		{"Receipt", "DELETE", "/v1/subjects/" + d.ID, ""},
	} {
		a := h.call(c.method, c.path, c.body).want(t, 200, "")
		var content any
		a.decode(t, &content)
		if err := doc.Components.Schemas[c.schema].Value.VisitJSON(content); err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
	}
}

// TestAReceiptCanBeVerified does what somebody with nothing but the
// description does.
func TestAReceiptCanBeVerified(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(ada)
	var receipt struct {
		Receipt           json.RawMessage
		Signed, Signature []byte
		Key               string
	}
	h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "").decode(t, &receipt)
	var keys struct {
		Keys []struct {
			ID  string
			Key []byte
		}
	}
	h.call("GET", "/v1/keys", "").want(t, 200, "").decode(t, &keys)
	if len(keys.Keys) != 1 || keys.Keys[0].ID != receipt.Key {
		t.Fatalf("the receipt is signed with key %s; published: %+v", receipt.Key, keys.Keys)
	}
	text := append([]byte("cloakroom/v1/erasure-receipt\x00"), receipt.Signed...)
	if !ed25519.Verify(keys.Keys[0].Key, text, receipt.Signature) {
		t.Error("the signature does not hold")
	}
	if string(receipt.Receipt) != string(receipt.Signed) {
		t.Errorf("shown %s, signed %s", receipt.Receipt, receipt.Signed)
	}
}
