// Package operator is the side door of a node: /v1/sys, health and metrics, as
// ordinary HTTP and JSON on a listener of its own. It authenticates, asks
// whether the caller may, has every change recorded before and after it, and
// turns errors into problem documents (RFC 9457).
//
// It never sees a value or a pseudonym. The one secret that comes in is a share
// of the recovery key: it is read into the buffer that [Config] lends, and what
// net/http and crypto/tls hold of it is wiped before it is used.
//
// A [Server] is safe for concurrent use.
package operator

import (
	"context"
	"net/http"
	"time"
)

// Action is what a caller must be allowed to do, as grants name it.
type Action string

// The actions that calls of this door ask for.
const (
	Operate Action = "operate" // nodes, drains, join tokens, status
	Custody Action = "custody" // admit a node, unseal
	Access  Action = "access"  // principals and grants
	Audit   Action = "audit"   // what was done
	Status  Action = "status"
	Metrics Action = "metrics"
)

// Call is one request as it is decided on and recorded. Names are those of the
// cluster's own things; nothing else of a request is recorded.
type Call struct {
	ID     [16]byte // random, of this request
	Caller string   // name of the principal; "" for a call without a token
	Name   string   // "drain-node"
	Any    []Action // the caller needs one of them; none: no token is asked for
	Target string   // node or principal it is about, as far as the name is well formed
}

// Gate knows the callers and keeps the record.
type Gate interface {
	// Authenticate returns the name of the principal whose token this is, or
	// [cloakroom.ErrUnauthenticated]. It must not keep token.
	Authenticate(token []byte) (principal string, err error)
	// Allow returns [cloakroom.ErrDenied] if the caller's grant has none of the
	// actions.
	Allow(call *Call) error
	// Record writes one entry of the audit log: outcome is "intent", "ok" or
	// the name of a problem.
	Record(ctx context.Context, call *Call, outcome string) error
}

// Health is what can be asked without changing anything.
type Health interface {
	// Public is what anybody may know who can reach the listener.
	Public() Public
	// FullStatus returns the status of the node, as JSON.
	FullStatus() ([]byte, error)
	// Ready says whether this node can answer; body is JSON for ?verbose.
	Ready(verbose bool) (body []byte, err error)
	// MetricsPage serves the metrics.
	MetricsPage() (http.Handler, error)
}

// Keys is about the keys of a sealed node.
type Keys interface {
	// Unseal takes one share. share lies in lent memory and dies with the call.
	Unseal(ctx context.Context, share []byte) (UnsealStatus, error)
}

// Members is about the nodes of the cluster. caller is the name of a principal.
type Members interface {
	Nodes(ctx context.Context) ([]Node, error)
	Drain(ctx context.Context, caller, name string, leadersOnly, cancel bool) error
	Remove(ctx context.Context, caller, name string, dead bool) error
	SafeToStop(ctx context.Context, name string) (safe bool, reasons []string, err error)
}

// Entry is about who comes in. caller is the name of a principal.
type Entry interface {
	Admit(ctx context.Context, caller, name, fingerprint string) error
	CreateJoinTokens(ctx context.Context, caller string, ttl time.Duration, count int) (tokens []string, err error)
}

// Public is what a node tells anybody: nothing about subjects, and of the
// cluster only what is needed to unseal it and to recognise it.
type Public struct {
	Version     string        `json:"version"`
	Node        string        `json:"node"`
	Stage       string        `json:"stage"` // joining, pending, sealed, starting, ready, removed
	Sealed      bool          `json:"sealed"`
	Ready       bool          `json:"ready"`
	Cluster     string        `json:"cluster,omitempty"`     // id
	Fingerprint string        `json:"fingerprint,omitempty"` // of this node's TLS key
	Unseal      *UnsealStatus `json:"unseal,omitempty"`      // of a sealed node
	// SinglePerson says that one person alone can read everything.
	SinglePerson bool `json:"single_person,omitempty"`
}

// UnsealStatus is how far an unseal is.
type UnsealStatus struct {
	Sealed bool `json:"sealed"`
	Given  int  `json:"given"`  // shares, since the first of this round
	Needed int  `json:"needed"` // k; 0 when unknown
	// LapsesSec is after how many seconds the shares given are forgotten; 0:
	// there are none.
	LapsesSec int `json:"lapses_s,omitempty"`
}

// Node is one node of the cluster.
type Node struct {
	Name        string `json:"name"`
	State       string `json:"state"`                 // pending, member, draining, removed
	Address     string `json:"address,omitempty"`     // of its cluster port
	API         string `json:"api,omitempty"`         // where callers reach it
	Zone        string `json:"zone,omitempty"`        // what fails together
	Fingerprint string `json:"fingerprint,omitempty"` // of its TLS key
	Alive       bool   `json:"alive"`                 // heard lately
	Here        bool   `json:"here,omitempty"`        // the node that was asked
	Boot        uint64 `json:"boot,omitempty"`        // how often it has started
	Replicas    int    `json:"replicas"`
	Leads       int    `json:"leads"`
	Drain       *Drain `json:"drain,omitempty"` // of one that is draining
}

// Drain is how far the draining of a node is.
type Drain struct {
	LeadersOnly bool   `json:"leaders_only,omitempty"`
	Done        bool   `json:"done"`
	Left        int    `json:"left"`              // replicas still there, or leads if LeadersOnly
	Nowhere     bool   `json:"nowhere,omitempty"` // there is no other node for them
	Detail      string `json:"detail,omitempty"`  // what it waits for, in words
}
