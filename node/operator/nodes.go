package operator

import (
	"errors"
	"strconv"
	"time"

	"cloakroom"
)

var memberRoutes = [...]route{
	{method: "GET", path: "/v1/sys/nodes", name: "list-nodes", any: []Action{Status, Operate, Custody}, serve: (*exchange).nodes},
	{method: "GET", path: "/v1/sys/nodes/{name}", name: "show-node", any: []Action{Status, Operate, Custody}, serve: (*exchange).node},
	{method: "POST", path: "/v1/sys/nodes/{name}/drain", name: "drain-node", any: []Action{Operate}, change: true, body: true, serve: (*exchange).drain},
	{method: "DELETE", path: "/v1/sys/nodes/{name}", name: "remove-node", any: []Action{Operate}, change: true, query: true, serve: (*exchange).remove},
	{method: "GET", path: "/v1/sys/nodes/{name}/safe-to-stop", name: "safe-to-stop", any: []Action{Status, Operate}, serve: (*exchange).safeToStop},
}

var entryRoutes = [...]route{
	{method: "POST", path: "/v1/sys/nodes/{name}/admit", name: "admit-node", any: []Action{Custody}, change: true, body: true, serve: (*exchange).admit},
	{method: "POST", path: "/v1/sys/join-tokens", name: "create-join-tokens", any: []Action{Operate}, change: true, body: true, serve: (*exchange).joinTokens},
}

func (x *exchange) nodes() (any, error) {
	list, err := x.server.cfg.Members.Nodes(x.ctx)
	if list == nil {
		list = []Node{}
	}
	return map[string][]Node{"nodes": list}, err
}

func (x *exchange) node() (any, error) {
	list, err := x.server.cfg.Members.Nodes(x.ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n.Name == x.name {
			return n, nil
		}
	}
	return nil, cloakroom.ErrNoNode
}

// ofNode is err of a call about a node: what was not found is that node.
func ofNode(err error) error {
	if errors.Is(err, cloakroom.ErrNotFound) {
		return cloakroom.ErrNoNode
	}
	return err
}

// drain begins, or with "cancel" ends, the draining of a node. It answers at
// once; the node itself says how far it is.
func (x *exchange) drain() (any, error) {
	var body struct {
		LeadersOnly bool `json:"leaders_only"`
		Cancel      bool `json:"cancel"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if body.LeadersOnly && body.Cancel {
		return nil, malformed("leaders_only and cancel exclude each other")
	}
	return nil, ofNode(x.server.cfg.Members.Drain(x.ctx, x.call.Caller, x.name, body.LeadersOnly, body.Cancel))
}

func (x *exchange) remove() (any, error) {
	dead := false
	switch x.r.URL.RawQuery {
	case "", "dead=false":
	case "dead=true":
		dead = true
	default:
		return nil, malformed("the query is dead=true, or none")
	}
	return nil, ofNode(x.server.cfg.Members.Remove(x.ctx, x.call.Caller, x.name, dead))
}

func (x *exchange) safeToStop() (any, error) {
	safe, reasons, err := x.server.cfg.Members.SafeToStop(x.ctx, x.name)
	if reasons == nil {
		reasons = []string{}
	}
	return struct {
		Safe    bool     `json:"safe"`
		Reasons []string `json:"reasons"`
	}{safe, reasons}, ofNode(err)
}

func (x *exchange) admit() (any, error) {
	var body struct {
		Fingerprint string `json:"fingerprint"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if body.Fingerprint == "" {
		return nil, malformed("fingerprint is missing")
	}
	return nil, ofNode(x.server.cfg.Entry.Admit(x.ctx, x.call.Caller, x.name, body.Fingerprint))
}

const (
	maxJoinTokens = 64
	joinTTL       = time.Hour
	maxJoinTTL    = 7 * 24 * time.Hour
)

func (x *exchange) joinTokens() (any, error) {
	var body struct {
		TTL   string `json:"ttl"`
		Count int    `json:"count"`
	}
	body.Count = 1
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	ttl := joinTTL
	if body.TTL != "" {
		var err error
		if ttl, err = time.ParseDuration(body.TTL); err != nil {
			return nil, malformed("ttl is a time such as 1h")
		}
	}
	if ttl < time.Minute || ttl > maxJoinTTL {
		return nil, malformed("ttl is from 1m to 168h")
	}
	if body.Count < 1 || body.Count > maxJoinTokens {
		return nil, malformed("count is from 1 to " + strconv.Itoa(maxJoinTokens))
	}
	tokens, err := x.server.cfg.Entry.CreateJoinTokens(x.ctx, x.call.Caller, ttl, body.Count)
	return map[string][]string{"tokens": tokens}, err
}
