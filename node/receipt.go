package node

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// contextReceipt is the signing context of receipts; docs/openapi.yaml says
// what is signed.
const contextReceipt = "erasure-receipt"

// receiptBody is what an erasure receipt states. It is built from what the
// shard keeps of the erasure alone, so that a repeated DELETE gives the same
// bytes and the same signature (Ed25519 is deterministic).
type receiptBody struct {
	Format    int    `json:"format"`
	Cluster   string `json:"cluster"`
	ID        string `json:"id"`
	Erased    string `json:"erased"` // RFC 3339, by shard time
	Version   string `json:"version"`
	Statement string `json:"statement"`
}

// signedReceipt is the answer to DELETE. Signed is the exact text the
// signature covers, base64; Receipt shows the same to people.
type signedReceipt struct {
	Receipt   receiptBody `json:"receipt"`
	Signed    string      `json:"signed"`
	Signature string      `json:"signature"`
	Key       string      `json:"key"` // id of the signing key, see /v1/keys
}

// receipt states and signs that the subject is no longer served.
func (n *Node) receipt(id cloakroom.Pseudonym, result command.Result) []byte {
	body := receiptBody{
		Format:    1,
		Cluster:   n.cluster.Directory().ClusterID.String(),
		ID:        id.String(),
		Erased:    time.Unix(int64(result.Expiry), 0).UTC().Format(time.RFC3339),
		Version:   result.Version.String(),
		Statement: "no longer served",
	}
	signed := mustJSON(body)
	keys := n.keys.PublicKeys()
	return mustJSON(signedReceipt{
		Receipt:   body,
		Signed:    base64.StdEncoding.EncodeToString(signed),
		Signature: base64.StdEncoding.EncodeToString(n.keys.Sign(contextReceipt, signed)),
		Key:       keys[len(keys)-1].ID,
	})
}

// PublicKeys returns the public signing keys, present and past.
func (n *Node) PublicKeys() []byte {
	type key struct {
		ID        string    `json:"id"`
		Algorithm string    `json:"algorithm"`
		Key       []byte    `json:"key"` // base64
		NotBefore time.Time `json:"not_before"`
	}
	list := []key{}
	for _, k := range n.keys.PublicKeys() {
		list = append(list, key{k.ID, k.Algorithm, k.Key, k.NotBefore.UTC()})
	}
	return mustJSON(struct {
		Keys []key `json:"keys"`
	}{list})
}

// mustJSON marshals a value of this package, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("node: marshal own type: " + err.Error())
	}
	return b
}
