package operator

import (
	"net/http"
	"slices"
	"strings"
)

// route is one call. A part of the path in braces is the name of a node or a
// principal.
type route struct {
	method, path string
	name         string // in the audit log
	any          []Action
	change       bool // recorded before and after
	body         bool
	query        bool
	serve        func(*exchange) (any, error)
}

// reply is an answer that is not plain JSON of a value.
type reply struct {
	status int
	kind   string // Content-Type
	body   []byte
}

// routes returns the calls of a server, those of missing parts left out.
func (s *Server) routes() []route {
	list := slices.Clone(healthRoutes[:])
	if s.cfg.Keys != nil {
		list = append(list, keyRoutes[:]...)
	}
	if s.cfg.Members != nil {
		list = append(list, memberRoutes[:]...)
	}
	if s.cfg.Entry != nil {
		list = append(list, entryRoutes[:]...)
	}
	if s.cfg.Rights != nil {
		list = append(list, rightsRoutes[:]...)
	}
	if s.cfg.Roll != nil {
		list = append(list, rollRoutes[:]...)
	}
	if s.cfg.Domains != nil {
		list = append(list, domainRoutes[:]...)
	}
	return list
}

// find returns the route of a request, the name in its path, and the methods
// of the path.
func (s *Server) find(r *http.Request) (found *route, name string, allow []string) {
	if r.URL.RawPath != "" { // an escape that the plain path does not need
		return nil, "", nil
	}
	for i := range s.table {
		candidate := &s.table[i]
		named, fits := match(candidate.path, r.URL.Path)
		switch {
		case !fits:
		case candidate.method == r.Method:
			return candidate, named, nil
		default:
			allow = append(allow, candidate.method)
		}
	}
	return nil, "", allow
}

// match compares a path with a pattern and returns what stands in its braces.
func match(pattern, path string) (name string, fits bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "{name}" && validName(got[i]):
			name = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return name, true
}

// validName is the rule for names of nodes and principals.
func validName(text string) bool {
	if text == "" || len(text) > 64 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
