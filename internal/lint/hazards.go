package lint

import (
	"go/ast"
	"go/token"
)

// hazards lets only tests leave out remedies: a literal of the type Hazards
// with something in it, or an assignment to one of its fields. Passing one on
// is free.
func hazards(t *Tree, report func(string, int, string)) {
	for _, f := range t.goFiles(false) {
		if _, helper := helped(f.Room); helper {
			continue
		}
		ast.Inspect(f.AST, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.CompositeLit:
				if len(node.Elts) > 0 && lastName(node.Type) == "Hazards" {
					report(f.Path, t.line(node), "only tests leave out remedies")
				}
			case *ast.AssignStmt:
				for _, to := range node.Lhs {
					field, ok := to.(*ast.SelectorExpr)
					if ok && node.Tok == token.ASSIGN && lastName(field.X) == "Hazards" {
						report(f.Path, t.line(node), "only tests leave out remedies")
					}
				}
			}
			return true
		})
	}
}

// lastName returns the name at the end of a selector, or the name itself.
func lastName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.SelectorExpr:
		return expr.Sel.Name
	case *ast.Ident:
		return expr.Name
	}
	return ""
}
