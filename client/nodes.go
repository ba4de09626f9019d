package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Public is what a node tells anybody who reaches its operator listener.
type Public struct {
	Version      string        `json:"version"`
	Node         string        `json:"node"`
	Stage        string        `json:"stage"` // joining, pending, sealed, starting, ready, removed
	Sealed       bool          `json:"sealed"`
	Ready        bool          `json:"ready"`
	Cluster      string        `json:"cluster"`     // id; may be empty
	Fingerprint  string        `json:"fingerprint"` // of the node
	Unseal       *UnsealStatus `json:"unseal"`      // of a sealed node
	SinglePerson bool          `json:"single_person"`
}

// UnsealStatus is how far an unseal is.
type UnsealStatus struct {
	Sealed    bool `json:"sealed"`
	Given     int  `json:"given"`    // shares
	Needed    int  `json:"needed"`   // 0: unknown
	LapsesSec int  `json:"lapses_s"` // until the shares given are forgotten
}

// Node is one node of the cluster, as the asked one knows it.
type Node struct {
	Name        string `json:"name"`
	State       string `json:"state"` // pending, member, draining, removed
	Address     string `json:"address,omitempty"`
	API         string `json:"api,omitempty"`
	Zone        string `json:"zone,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Alive       bool   `json:"alive"`
	Here        bool   `json:"here,omitempty"` // the node that was asked
	Boot        uint64 `json:"boot,omitempty"`
	Replicas    int    `json:"replicas"`
	Leads       int    `json:"leads"`
	Drain       *Drain `json:"drain,omitempty"`
}

// Drain is how far the draining of a node is.
type Drain struct {
	LeadersOnly bool   `json:"leaders_only,omitempty"`
	Done        bool   `json:"done"`
	Left        int    `json:"left"` // replicas still there, or leads
	Nowhere     bool   `json:"nowhere,omitempty"`
	Detail      string `json:"detail,omitempty"`
}

// PublicStatus asks a node how it is; it takes no token.
func (c *Client) PublicStatus(ctx context.Context) (Public, error) {
	var p Public
	return p, c.ask(ctx, "read status", "/v1/sys/status", &p)
}

// Unseal gives one share to a sealed node. The text is sent as it is.
func (c *Client) Unseal(ctx context.Context, share []byte) (UnsealStatus, error) {
	body := append(append([]byte(`{"share":"`), share...), `"}`...)
	defer clear(body)
	answer, err := c.do(ctx, &call{verb: "unseal", method: http.MethodPost, path: "/v1/sys/unseal", body: body})
	if err != nil {
		return UnsealStatus{}, err
	}
	var s UnsealStatus
	return s, decode("unseal", answer.body, &s)
}

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list struct{ Nodes []Node }
	return list.Nodes, c.ask(ctx, "list nodes", "/v1/sys/nodes", &list)
}

// Node reads one of them.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	var n Node
	return n, c.ask(ctx, "read node", nodePath(name, ""), &n)
}

// AdmitNode lets a node that waits have the keys; fingerprint is that node's.
func (c *Client) AdmitNode(ctx context.Context, name, fingerprint string) error {
	return c.change(ctx, "admit node", nodePath(name, "/admit"), map[string]string{"fingerprint": fingerprint}, nil)
}

// DrainNode begins to move replicas, or leads only, away from a node, or ends
// that. It does not wait: [Client.Node] says how far it is.
func (c *Client) DrainNode(ctx context.Context, name string, leadersOnly, cancel bool) error {
	body := map[string]bool{}
	if leadersOnly {
		body["leaders_only"] = true
	}
	if cancel {
		body["cancel"] = true
	}
	return c.change(ctx, "drain node", nodePath(name, "/drain"), body, nil)
}

// RemoveNode takes a drained node, or with dead one that will not come back,
// out of the cluster for good.
func (c *Client) RemoveNode(ctx context.Context, name string, dead bool) error {
	query := ""
	if dead {
		query = "dead=true"
	}
	_, err := c.do(ctx, &call{verb: "remove node", method: http.MethodDelete, path: nodePath(name, ""), query: query})
	return err
}

// SafeToStop asks whether a node can stop without a shard losing its
// majority; if not, reasons say why.
func (c *Client) SafeToStop(ctx context.Context, name string) (safe bool, reasons []string, err error) {
	var answer struct {
		Safe    bool
		Reasons []string
	}
	err = c.ask(ctx, "ask whether the node is safe to stop", nodePath(name, "/safe-to-stop"), &answer)
	return answer.Safe, answer.Reasons, err
}

// CreateJoinTokens makes tokens with which one node each can join within ttl.
func (c *Client) CreateJoinTokens(ctx context.Context, ttl time.Duration, count int) (tokens [][]byte, err error) {
	var answer struct{ Tokens []string }
	body := map[string]any{"ttl": ttl.String(), "count": count}
	if err := c.change(ctx, "create join tokens", "/v1/sys/join-tokens", body, &answer); err != nil {
		return nil, err
	}
	for _, token := range answer.Tokens {
		tokens = append(tokens, []byte(token))
	}
	return tokens, nil
}

func nodePath(name, rest string) string { return "/v1/sys/nodes/" + name + rest }

// ask reads a document into a struct.
func (c *Client) ask(ctx context.Context, verb, path string, into any) error {
	raw, err := c.read(ctx, verb, path)
	if err != nil {
		return err
	}
	return decode(verb, raw, into)
}

// change posts a document and reads the answer into a struct, if not nil.
func (c *Client) change(ctx context.Context, verb, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, &call{verb: verb, method: http.MethodPost, path: path, body: text})
	if err != nil || into == nil {
		return err
	}
	return decode(verb, answer.body, into)
}
