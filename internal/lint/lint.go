// Package lint holds the tree to the rules of the house: the floor plan, who
// may use which module, what the rooms under cluster must not touch, and the
// habits that a reader counts on. It is a room of tests: nothing imports it.
//
// It parses the files itself. A test that asked the go command would be
// answered from the test cache, which does not know what that command read.
package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Tree is what the rules look at: the text files of the project.
type Tree struct {
	Files []*File // by path
	fset  *token.FileSet
	paths map[string]bool
}

// File is one file of the tree.
type File struct {
	Path string // with slashes, from the root
	Room string // its folder; "" is the root package
	Text string
	AST  *ast.File // nil unless a Go file outside testdata
	Test bool      // a _test.go file
}

// Finding is one place that breaks a rule.
type Finding struct {
	Path    string
	Line    int // from 1; 0: the file or folder as a whole
	Rule    string
	Message string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Rule, f.Message)
}

// Rule is one habit. Check calls report for each place that breaks it.
type Rule struct {
	Name  string
	Check func(t *Tree, report func(file string, line int, message string))
}

// skipped are folders that hold nothing of the project.
var skipped = map[string]bool{".git": true, ".cache": true, "bin": true, "out": true, "rapid": true, "node_modules": true}

// Load reads the tree under fsys.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet(), paths: map[string]bool{}}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped[entry.Name()] {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || skipped[entry.Name()] {
			return nil
		}
		file, err := t.load(fsys, name)
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
		t.paths[name] = true
		if file != nil {
			t.Files = append(t.Files, file)
		}
		return nil
	})
	return t, err
}

// load reads one file; nil for one that is not text.
func (t *Tree) load(fsys fs.FS, name string) (*File, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	if strings.IndexByte(string(text[:min(len(text), 8000)]), 0) >= 0 {
		return nil, nil
	}
	file := &File{Path: name, Room: path.Dir(name), Text: string(text), Test: strings.HasSuffix(name, "_test.go")}
	if file.Room == "." {
		file.Room = ""
	}
	if strings.HasSuffix(name, ".go") && !strings.Contains(name, "testdata/") {
		file.AST, err = parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	}
	return file, err
}

// Check returns what breaks the rules, by place.
func (t *Tree) Check(rules []Rule) []Finding {
	var found []Finding
	for _, rule := range rules {
		rule.Check(t, func(file string, line int, message string) {
			found = append(found, Finding{file, line, rule.Name, message})
		})
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(found)
}

// goFiles returns the parsed files, with or without the tests.
func (t *Tree) goFiles(tests bool) []*File {
	var files []*File
	for _, f := range t.Files {
		if f.AST != nil && (tests || !f.Test) {
			files = append(files, f)
		}
	}
	return files
}

// rooms returns the non-test files of each package folder.
func (t *Tree) rooms() map[string][]*File {
	rooms := map[string][]*File{}
	for _, f := range t.goFiles(false) {
		rooms[f.Room] = append(rooms[f.Room], f)
	}
	return rooms
}

func (t *Tree) line(node ast.Node) int { return t.fset.Position(node.Pos()).Line }

// lineOf returns the line of the byte at offset.
func lineOf(text string, offset int) int { return 1 + strings.Count(text[:offset], "\n") }

// All returns every rule.
func All() []Rule {
	return []Rule{
		{"floor-plan", floorPlan},
		{"module-owner", moduleOwner},
		{"module-reason", moduleReason},
		{"package-owner", packageOwner},
		{"cluster-config", clusterConfig},
		{"go-statement", goStatement},
		{"hazards", hazards},
		{"init", noInit},
		{"sleep", noSleep},
		{"seed-corpus", seedCorpus},
		{"left-open", leftOpen},
		{"machine", noMachine},
		{"long-function", longFunction},
		{"long-file", longFile},
		{"design", design},
		{"package-comment", packageComment},
		{"format", formatted},
	}
}
