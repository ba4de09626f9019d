package lint

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "cloakroom"

// plan is the floor plan: the rooms, and which rooms each may import. Imports
// go one way. "" is the root package; a name that ends in "/*" stands for
// every room below.
//
// A room of test helpers called <room>test may import its room and whatever
// that may. Test files are free: they bind rooms together on purpose.
var plan = map[string][]string{
	"":                  {},
	"securemem":         {""},
	"securemem/hybrid":  {"securemem"},
	"securemem/keyring": {"", "securemem", "securemem/hybrid", "securemem/recovery"},
	"snapshot":          {"", "securemem"},
	"cluster/bell":      {},
	"cluster/disk":      {},
	"cluster/wal":       {"cluster/disk"},
	"cluster/command":   {""},
	"cluster/state":     {"", "cluster/command", "securemem"},
	"cluster/directory": {"", "cluster/command"},
	"cluster/placement": {"", "cluster/directory"},
	"cluster/replica":   {"", "cluster/bell", "cluster/command", "snapshot"},
	"cluster/wire":      {"", "cluster/command"},
	"cluster/confirm":   {""},
	"cluster/cert":      {""},
	"cluster/lease":     {},
	"cluster/peer":      {"", "cluster/cert"},
	"cluster/gossip":    {},
	"cluster":           {"", "cluster/*", "snapshot"},
	"node/policy":       {""},
	"node/audit":        {""},
	"node/events":       {""},
	"node/record":       {"", "securemem", "securemem/keyring"},
	"node/api":          {"", "securemem"},
	"node/entry":        {"", "securemem"},
	"node/folder":       {"", "cluster/disk"},
	"node/operator":     {""},
	"node":              {"", "cluster", "cluster/disk", "cluster/cert", "cluster/command", "cluster/directory", "cluster/wal", "cluster/wire", "node/*", "securemem", "securemem/hybrid", "securemem/keyring", "securemem/recovery", "snapshot"},
	"client":            {""},
	"bench":             {"", "client", "internal/*", "bench/*"},
	"bench/load":        {},
	"bench/server":      {},
	"bench/cmd":         {"bench"},
	"bench/bareraft":    {},
	"bench/replicas":    {"", "cluster", "cluster/*", "node/record", "securemem", "securemem/keyring"}, // three nodes without their front doors
	"cmd/cloakroom":     {"", "node", "client", "bench", "internal/people", "cmd/cloakroom/*"},

	"cmd/cloakroom/nodefile": {""},
	"securemem/recovery":     {"", "securemem", "securemem/hybrid"},

	"cmd/cloakroom/rows":     {""},
	"cmd/cloakroom/importer": {"", "client", "cmd/cloakroom/rows"},

	"internal/history":  {},
	"internal/hosts":    {"", "internal/history", "internal/people"}, // it knows nodes from outside only
	"internal/people":   {""},
	"internal/lint":     {},
	"internal/simnet":   {},
	"internal/dumptest": {"", "client", "internal/people"},
}

func floorPlan(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(false) {
		allowed, known := allowedImports(f.Room)
		if !known {
			report(f.Path, 0, "the room "+strconv.Quote(f.Room)+" is not on the floor plan")
			continue
		}
		for _, spec := range f.AST.Imports {
			room, ours := roomOf(importPath(spec))
			if ours && !covers(allowed, room) {
				report(f.Path, t.line(spec), fmt.Sprintf("%q may not import %q", f.Room, room))
			}
		}
	}
}

// allowedImports returns what the files of room may import.
func allowedImports(room string) ([]string, bool) {
	if allowed, known := plan[room]; known {
		return allowed, true
	}
	base, helper := helped(room)
	allowed, known := plan[base]
	return append(slices.Clone(allowed), base), known && helper
}

// helped returns the room that a room of test helpers helps: cluster/state
// for cluster/state/statetest.
func helped(room string) (base string, helper bool) {
	base = path.Dir(room)
	return base, room == base+"/"+path.Base(base)+"test"
}

func covers(allowed []string, room string) bool {
	return slices.ContainsFunc(allowed, func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return pattern == room || wild && strings.HasPrefix(room, prefix)
	})
}

// roomOf returns the room of an import path of this module.
func roomOf(imported string) (string, bool) {
	if imported == module {
		return "", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func importPath(spec *ast.ImportSpec) string {
	imported, _ := strconv.Unquote(spec.Path.Value) // the parser took it
	return imported
}

// owners says which rooms may import a module from outside; "test" stands for
// test files, whatever their room. What is not here may be imported nowhere.
var owners = map[string][]string{
	"filippo.io/age":                           {"snapshot", "securemem/hybrid", "securemem/keyring", "securemem/recovery", "test"},
	"filippo.io/edwards25519":                  {"securemem/keyring"},
	"github.com/HdrHistogram/hdrhistogram-go":  {"bench", "bench/load"},
	"github.com/anishathalye/porcupine":        {"internal/history"},
	"github.com/awnumar/memguard":              {"securemem"}, // one failed mlock purges every secret of the process
	"github.com/brianvoe/gofakeit/v7":          {"internal/people", "bench"},
	"github.com/cloudflare/circl":              {"securemem/recovery"},
	"github.com/dgraph-io/ristretto/v2":        {"node", "client"},
	"github.com/getkin/kin-openapi":            {"test"},
	"github.com/go-json-experiment/json":       {"node", "node/api", "node/operator", "node/record", "client", "cmd/cloakroom/rows"},
	"github.com/goccy/go-yaml":                 {"cmd/cloakroom/nodefile"},
	"github.com/hashicorp/go-hclog":            {"cluster/replica", "bench/bareraft"},
	"github.com/hashicorp/memberlist":          {"cluster/gossip"},                                   // hints, and nobody else is to take them for more
	"github.com/hashicorp/raft":                {"cluster/replica", "cluster/wal", "bench/bareraft"}, // nobody else knows how replicas agree, and what they keep; the third is what they are measured against
	"github.com/nyaruka/phonenumbers":          {"client", "cmd/cloakroom"},
	"github.com/prometheus/client_golang":      {"node", "cmd/cloakroom"},
	"github.com/rogpeppe/go-internal":          {"test"},
	"github.com/santhosh-tekuri/jsonschema/v6": {"client", "cmd/cloakroom"},
	"github.com/spf13/cobra":                   {"cmd/cloakroom"},
	"github.com/spf13/pflag":                   {"cmd/cloakroom"},
	"github.com/vbauerster/mpb/v8":             {"cmd/cloakroom", "bench"},
	"go.uber.org/goleak":                       {"test"},
	"golang.org/x/crypto":                      {"securemem", "node/record", "securemem/keyring"},
	"golang.org/x/sys":                         {"securemem", "cluster/disk", "node", "bench/load", "internal/dumptest", "internal/hosts", "test"},
	"golang.org/x/time":                        {"node/api", "node"},
	"pgregory.net/rapid":                       {"test"},
}

func moduleOwner(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		for _, spec := range f.AST.Imports {
			imported := importPath(spec)
			if !external(imported) {
				continue
			}
			allowed := owners[ownedModule(imported)]
			if !slices.Contains(allowed, f.Room) && !(f.Test && slices.Contains(allowed, "test")) {
				report(f.Path, t.line(spec), fmt.Sprintf("%q may not import %q", f.Room, imported))
			}
		}
	}
}

// external says whether the first element of an import path is a host.
func external(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

func ownedModule(imported string) string {
	for owned := range owners {
		if imported == owned || strings.HasPrefix(imported, owned+"/") {
			return owned
		}
	}
	return ""
}

// packageOwners says which rooms may import a package of the standard library.
// Tests are free: some look at memory that was given back.
var packageOwners = map[string][]string{
	"unsafe": {"securemem", "securemem/keyring"}, // where state is moved into guarded memory
	"C":      {},
}

func packageOwner(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(false) {
		for _, spec := range f.AST.Imports {
			allowed, owned := packageOwners[importPath(spec)]
			if owned && !slices.Contains(allowed, f.Room) {
				report(f.Path, t.line(spec), fmt.Sprintf("%q may not import %q", f.Room, importPath(spec)))
			}
		}
	}
}
