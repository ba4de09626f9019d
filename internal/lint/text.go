package lint

import (
	"go/format"
	"regexp"
	"slices"
	"strings"
)

// The words that mark something left open are put together here, so that the
// rule does not find itself.
var openWords = regexp.MustCompile(`(?i)(` + strings.Join([]string{
	"TO" + "DO", "FIX" + "ME", "XX" + "X", "not " + "implemented", "un" + "implemented",
}, "|") + `)`)

func leftOpen(t *Tree, report func(string, int, string)) {
	for _, f := range t.Files {
		if !strings.HasSuffix(f.Path, ".go") {
			continue
		}
		for _, at := range openWords.FindAllStringIndex(f.Text, -1) {
			report(f.Path, lineOf(f.Text, at[0]), "left open: "+f.Text[at[0]:at[1]])
		}
	}
}

// What belongs to one machine: folders it works in, hosts it loads from.
var machineWords = regexp.MustCompile(strings.Join([]string{
	`/(wo` + `rk|fa` + `rm)/`, `/ro` + `ot/`, `/ho` + `me/[a-z]`, `/Us` + `ers/`,
	`proxy\.gol` + `ang\.org`, `registry\.np` + `mjs\.org`, `deb\.deb` + `ian\.org`,
}, "|"))

func noMachine(t *Tree, report func(string, int, string)) {
	for _, f := range t.Files {
		for _, at := range machineWords.FindAllStringIndex(f.Text, -1) {
			report(f.Path, lineOf(f.Text, at[0]), "belongs to one machine: "+f.Text[at[0]:at[1]])
		}
	}
}

func formatted(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		if pretty, err := format.Source([]byte(f.Text)); err != nil || string(pretty) != f.Text {
			report(f.Path, 0, "gofmt would change it")
		}
	}
}

// designed are the rooms with a decision in them; each says why in DESIGN.md.
var designed = []string{
	"securemem", "securemem/keyring", "cluster", "cluster/command", "cluster/state", "cluster/directory",
	"cluster/replica", "cluster/wire", "cluster/confirm", "cluster/gossip", "node", "node/policy", "node/audit", "node/record", "node/api", "node/operator", "bench",
}

func design(t *Tree, report func(string, int, string)) {
	for room := range t.rooms() {
		if slices.Contains(designed, room) && !t.paths[room+"/DESIGN.md"] {
			report(room, 0, "has no DESIGN.md")
		}
	}
}

func packageComment(t *Tree, report func(string, int, string)) {
	for room, files := range t.rooms() {
		if !slices.ContainsFunc(files, hasPackageComment) {
			folder := room
			if room == "" {
				folder = "."
			}
			report(folder, 0, "no file has a package comment")
		}
	}
}

func hasPackageComment(f *File) bool {
	doc := f.AST.Doc.Text()
	return strings.HasPrefix(doc, "Package "+f.AST.Name.Name+" ") ||
		f.AST.Name.Name == "main" && doc != ""
}
