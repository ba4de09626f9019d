package lint

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// eachUse calls visit for every name that f takes from a package it imports.
// A local variable of the same name as a package is taken for the package.
func (t *Tree) eachUse(f *File, visit func(sel *ast.SelectorExpr, imported string)) {
	imports := map[string]string{}
	for _, spec := range f.AST.Imports {
		imported := importPath(spec)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = imported
	}
	ast.Inspect(f.AST, func(node ast.Node) bool {
		if sel, ok := node.(*ast.SelectorExpr); ok {
			if name, ok := sel.X.(*ast.Ident); ok && imports[name.Name] != "" {
				visit(sel, imports[name.Name])
			}
		}
		return true
	})
}

// starters are the rooms that may start goroutines. Each such line says who
// stops it.
var starters = []string{
	"securemem", "cluster/replica", "cluster/wal", "cluster/confirm", "cluster/peer", "cluster/gossip", "cluster", "node/audit", "node/api", "node/operator", "node",
	"client", "bench", "bench/load", "bench/server", "bench/bareraft", "bench/replicas", "cmd/cloakroom", "internal/dumptest", "internal/hosts",
}

func goStatement(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(false) {
		if _, helper := helped(f.Room); helper || slices.Contains(starters, f.Room) {
			continue
		}
		ast.Inspect(f.AST, func(node ast.Node) bool {
			if stmt, ok := node.(*ast.GoStmt); ok {
				report(f.Path, t.line(stmt), fmt.Sprintf("%q may not start goroutines", f.Room))
			}
			return true
		})
	}
}

func noInit(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		for _, decl := range f.AST.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				report(f.Path, t.line(fn), "build it in New instead")
			}
		}
	}
}

func noSleep(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		if !f.Test {
			continue
		}
		t.eachUse(f, func(sel *ast.SelectorExpr, imported string) {
			if imported == "time" && sel.Sel.Name == "Sleep" {
				report(f.Path, t.line(sel), "wait for a condition, or use a fake clock")
			}
		})
	}
}

func seedCorpus(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !f.Test || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			folder := path.Join(f.Room, "testdata", "fuzz", fn.Name.Name)
			if !t.holdsFiles(folder) {
				report(f.Path, t.line(fn), folder+" holds no seed")
			}
		}
	}
}

func (t *Tree) holdsFiles(folder string) bool {
	for name := range t.paths {
		if path.Dir(name) == folder {
			return true
		}
	}
	return false
}

const maxFunctionLines = 90

func longFunction(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := t.fset.Position(fn.End()).Line - t.line(fn) + 1; lines > maxFunctionLines {
				report(f.Path, t.line(fn), fmt.Sprintf("%s has %d lines, at most %d", fn.Name.Name, lines, maxFunctionLines))
			}
		}
	}
}

const maxFileLines = 700

func longFile(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(true) {
		if lines := strings.Count(f.Text, "\n"); lines > maxFileLines {
			report(f.Path, 0, strconv.Itoa(lines)+" lines: is it one room?")
		}
	}
}
