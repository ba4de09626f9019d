package lint

import (
	"fmt"
	"slices"
	"strings"
)

// required is one line of a go.mod.
type required struct {
	path    string
	comment string // after the //
	line    int
}

func (r required) indirect() bool { return strings.HasPrefix(r.comment, "indirect") }

// moduleReason holds go.mod to three things: whoever is imported is required
// directly, whoever is required directly is imported, and says what for.
func moduleReason(t *Tree, report func(string, int, string)) {
	at := slices.IndexFunc(t.Files, func(f *File) bool { return f.Path == "go.mod" })
	if at < 0 {
		return
	}
	imported := t.importedFrom()
	for _, r := range parseRequired(t.Files[at].Text) {
		user := imported(r.path)
		switch {
		case user == "" && !r.indirect():
			report("go.mod", r.line, r.path+" is imported by nobody")
		case user != "" && r.indirect():
			report("go.mod", r.line, fmt.Sprintf("%s is marked indirect, but %s imports it", r.path, user))
		case user != "" && r.comment == "":
			report("go.mod", r.line, r.path+" has no reason")
		}
	}
}

// importedFrom returns a func that names a file that imports the module, ""
// if none does.
func (t *Tree) importedFrom() func(module string) string {
	users := map[string]string{}
	for _, f := range t.goFiles(true) {
		for _, spec := range f.AST.Imports {
			users[importPath(spec)] = f.Path
		}
	}
	return func(module string) string {
		for imported, user := range users {
			// golang.org/x/sys/unix is of golang.org/x/sys; a/v2 is not of a.
			rest, of := strings.CutPrefix(imported, module)
			if of && (rest == "" || rest[0] == '/' && !versionElement(rest)) {
				return user
			}
		}
		return ""
	}
}

// versionElement says whether rest begins with a major version such as /v2.
func versionElement(rest string) bool {
	first, _, _ := strings.Cut(rest[1:], "/")
	return len(first) > 1 && first[0] == 'v' && strings.Trim(first[1:], "0123456789") == ""
}

func parseRequired(text string) []required {
	var list []required
	inBlock := false
	for i, line := range strings.Split(text, "\n") {
		body, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(body)
		switch {
		case len(words) == 2 && words[0] == "require" && words[1] == "(":
			inBlock = true
			continue
		case len(words) == 1 && words[0] == ")":
			inBlock = false
			continue
		case len(words) == 3 && words[0] == "require":
			words = words[1:]
		case !inBlock || len(words) != 2:
			continue
		}
		list = append(list, required{path: words[0], comment: strings.TrimSpace(comment), line: i + 1})
	}
	return list
}
