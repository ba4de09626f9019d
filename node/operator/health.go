package operator

import (
	"encoding/json"
	"net/http"

	"cloakroom"
)

var healthRoutes = [...]route{
	{method: "GET", path: "/livez", name: "livez", serve: (*exchange).livez},
	{method: "GET", path: "/readyz", name: "readyz", query: true, serve: (*exchange).readyz},
	{method: "GET", path: "/metrics", name: "metrics", any: []Action{Metrics, Operate}, serve: (*exchange).metrics},
	{method: "GET", path: "/v1/sys/status", name: "status", serve: (*exchange).status},
	{method: "GET", path: "/v1/sys/shards", name: "shards", any: []Action{Status, Operate}, serve: (*exchange).shards},
}

func (x *exchange) livez() (any, error) { return map[string]bool{"live": true}, nil }

// readyz speaks of this node only; a shard without a quorum stands under
// ?verbose and never empties a load balancer.
func (x *exchange) readyz() (any, error) {
	verbose := x.r.URL.RawQuery == "verbose"
	if !verbose && x.r.URL.RawQuery != "" {
		return nil, malformed("the query is verbose, or none")
	}
	body, err := x.server.cfg.Health.Ready(verbose)
	if err != nil {
		return nil, err
	}
	if body == nil {
		body = []byte(`{"ready":true}`)
	}
	return reply{http.StatusOK, "application/json", body}, nil
}

func (x *exchange) metrics() (any, error) {
	page, err := x.server.cfg.Health.MetricsPage()
	if err != nil {
		return nil, err
	}
	return page, nil
}

// status answers what anybody may know; a token of an operator gets all.
func (x *exchange) status() (any, error) {
	public := x.server.cfg.Health.Public()
	if len(x.r.Header["Authorization"]) == 0 || public.Sealed {
		return public, nil // a sealed node knows no caller
	}
	x.call.Any = []Action{Status, Operate}
	if err := x.authorize(&route{name: "status", any: x.call.Any}); err != nil {
		return nil, x.record(err)
	}
	return x.full(func(all map[string]json.RawMessage) any {
		for name, value := range members(public) {
			if _, there := all[name]; !there {
				all[name] = value
			}
		}
		return all
	})
}

func (x *exchange) shards() (any, error) {
	return x.full(func(all map[string]json.RawMessage) any {
		return map[string]json.RawMessage{"directory": all["directory"], "shards": all["shards"]}
	})
}

// full has the status of the node made into an answer.
func (x *exchange) full(answer func(map[string]json.RawMessage) any) (any, error) {
	document, err := x.server.cfg.Health.FullStatus()
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(document, &all); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, cloakroom.ErrStarting
	}
	return answer(all), nil
}

func members(v any) (all map[string]json.RawMessage) {
	text, err := json.Marshal(v)
	if err != nil || json.Unmarshal(text, &all) != nil {
		panic("operator: a status cannot be encoded") // it is made of texts and numbers
	}
	return all
}
