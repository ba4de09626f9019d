package api

import (
	"net/http"
	"strings"
)

// call is one method of one resource.
type call struct {
	name   string // in metrics
	serve  func(*exchange) error
	body   int  // largest body in bytes, 0: none
	write  bool // takes Idempotency-Key and If-Match
	query  bool // takes a query string
	public bool // takes no token
}

// resource is what stands at one path.
type resource struct {
	get, put, post, patch, delete *call
	allow                         []string // the Allow header
}

// The resources. Written out instead of a pattern router: a dozen paths, two
// shapes, and nothing allocated per request.
var (
	resolveResource = resource{
		post:  &call{name: "resolve", serve: (*exchange).resolve, body: MaxResolveBytes},
		allow: []string{"POST"},
	}
	subjectsResource = resource{
		post:  &call{name: "deposit", serve: (*exchange).deposit, body: MaxSubjectBody, write: true},
		allow: []string{"POST"},
	}
	batchResource = resource{
		post:  &call{name: "deposit-batch", serve: (*exchange).depositBatch, body: MaxBatchBody, write: true},
		allow: []string{"POST"},
	}
	subjectResource = resource{
		get:    &call{name: "get", serve: (*exchange).get, query: true},
		put:    &call{name: "put", serve: (*exchange).put, body: MaxSubjectBody, write: true},
		patch:  &call{name: "patch", serve: (*exchange).patch, body: MaxSubjectBody, write: true},
		delete: &call{name: "erase", serve: (*exchange).erase, write: true},
		allow:  []string{"DELETE, GET, PATCH, PUT"},
	}
	eventsResource = reader(&call{name: "events", serve: (*exchange).events, query: true})
	sourceResource = resource{
		put:   &call{name: "upsert", serve: (*exchange).upsert, body: MaxSubjectBody, write: true},
		allow: []string{"PUT"},
	}
	schemaResource = resource{
		get:   &call{name: "schema-read", serve: (*exchange).schema},
		put:   &call{name: "schema-write", serve: (*exchange).setSchema, body: MaxSchemaBody, write: true},
		allow: []string{"GET, PUT"},
	}
	keysResource    = reader(&call{name: "keys", serve: (*exchange).keys, public: true})
	statusResource  = reader(&call{name: "status", serve: (*exchange).status})
	livezResource   = reader(&call{name: "livez", serve: (*exchange).livez, public: true})
	readyzResource  = reader(&call{name: "readyz", serve: (*exchange).readyz, public: true, query: true})
	metricsResource = reader(&call{name: "metrics", serve: (*exchange).metrics})
)

func reader(get *call) resource { return resource{get: get, allow: []string{"GET"}} }

// findCall finds what the request asks for. It sets x.id, or x.allow when the
// resource does not know the method.
func (x *exchange) findCall() (*call, error) {
	if x.r.URL.RawPath != "" { // an escape that the plain path does not need
		return nil, errNoRoute
	}
	res := x.findResource(x.r.URL.Path)
	if res == nil {
		return nil, errNoRoute
	}
	if c := res.method(x.r.Method); c != nil {
		return c, nil
	}
	x.allow = res.allow
	return nil, errMethod
}

func (x *exchange) findResource(path string) *resource {
	switch path {
	case "/v1/resolve":
		return &resolveResource
	case "/v1/subjects":
		return &subjectsResource
	case "/v1/subjects/batch":
		return &batchResource
	case "/v1/events":
		return &eventsResource
	case "/v1/subjects/by-source":
		return &sourceResource
	case "/v1/schema":
		return &schemaResource
	case "/v1/keys":
		return &keysResource
	case "/v1/sys/status":
		return &statusResource
	case "/livez":
		return &livezResource
	case "/readyz":
		return &readyzResource
	case "/metrics":
		return &metricsResource
	}
	id, ok := strings.CutPrefix(path, "/v1/subjects/")
	if !ok || id == "" || strings.IndexByte(id, '/') >= 0 {
		return nil
	}
	x.id = id
	return &subjectResource
}

func (r *resource) method(name string) *call {
	switch name {
	case http.MethodGet:
		return r.get
	case http.MethodPost:
		return r.post
	case http.MethodPut:
		return r.put
	case http.MethodPatch:
		return r.patch
	case http.MethodDelete:
		return r.delete
	}
	return nil
}
