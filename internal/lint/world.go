package lint

import (
	"go/ast"
	"slices"
	"strings"
)

// world is what a package offers that a room under cluster must get through
// its Config: clock, network, file system, randomness, logger. That keeps
// simulation and fault injection possible.
type world struct {
	never []string // these names, or
	only  []string // all but these; "Err*" stands for every name that begins so
}

// worldly are the packages with something of the world in them. One with no
// lists may not be imported at all. Timers and tickers are fine: a bubble of
// testing/synctest moves them, and contexts can't do without.
var worldly = map[string]world{
	"time": {never: []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "LoadLocation", "Local"}},
	"net": {never: []string{"Dial", "DialTimeout", "DialIP", "DialTCP", "DialUDP", "DialUnix", "Dialer",
		"Listen", "ListenIP", "ListenTCP", "ListenUDP", "ListenUnix", "ListenUnixgram", "ListenMulticastUDP", "ListenPacket", "ListenConfig",
		"FileConn", "FileListener", "FilePacketConn", "Interfaces", "InterfaceAddrs", "InterfaceByIndex", "InterfaceByName",
		"DefaultResolver", "Resolver", "ResolveIPAddr", "ResolveTCPAddr", "ResolveUDPAddr", "Lookup*"}},
	"crypto/tls":    {never: []string{"Dial", "DialWithDialer", "Dialer", "Listen", "LoadX509KeyPair"}},
	"os":            {only: []string{"Err*", "PathError", "SyscallError"}},
	"syscall":       {only: []string{"Errno", "EADDRINUSE", "ECONNREFUSED", "ECONNRESET", "EIO", "ENOSPC", "EPIPE"}},
	"path/filepath": {never: []string{"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"}},
	"log/slog": {never: []string{"Default", "SetDefault", "SetLogLoggerLevel", "Log", "LogAttrs", "With",
		"Debug*", "Info*", "Warn*", "Error*"}},
	"crypto/rand":  {},
	"hash/maphash": {}, // seeds itself
	"io/ioutil":    {},
	"log":          {},
	"math/rand":    {},
	"math/rand/v2": {},
	"net/http":     {},
	"os/exec":      {},
	"os/signal":    {},
}

// carriers are the files through which the bytes of a real cluster leave, onto
// the network or the disk: what Config falls back to, and nothing else.
var carriers = map[string][]string{
	"cluster/peer/carrier.go":  {"Dialer", "ListenConfig"},
	"cluster/disk/os.go":       {"File", "O_*", "OpenFile", "ReadFile", "Rename", "Remove", "RemoveAll", "MkdirAll", "ReadDir", "Stat", "Open"},
	"cluster/disk/os_linux.go": {"OpenFile", "O_*"},
}

// whole reports whether the package may not be imported at all.
func (w *world) whole() bool { return w.never == nil && w.only == nil }

// forbids reports whether name is one of the world's.
func (w *world) forbids(name string) bool {
	if w.only != nil {
		return !listed(w.only, name)
	}
	return listed(w.never, name)
}

// listed reports whether one of patterns is name, or begins it before a star.
func listed(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, prefix)
	})
}

func clusterConfig(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(false) {
		if f.Room != "cluster" && !strings.HasPrefix(f.Room, "cluster/") {
			continue
		}
		for _, spec := range f.AST.Imports {
			imported := importPath(spec)
			switch w, is := worldly[imported]; {
			case is && w.whole():
				report(f.Path, t.line(spec), imported+" comes in through Config")
			case is && spec.Name != nil && spec.Name.Name == ".":
				report(f.Path, t.line(spec), "a dot import of "+imported+" hides what comes in through Config")
			}
		}
		t.eachUse(f, func(sel *ast.SelectorExpr, imported string) {
			w, is := worldly[imported]
			if is && !w.whole() && w.forbids(sel.Sel.Name) && !listed(carriers[f.Path], sel.Sel.Name) {
				report(f.Path, t.line(sel), imported+"."+sel.Sel.Name+" comes in through Config")
			}
		})
	}
}
