package nodefile

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// reader walks a document and notes what is wrong with it.
type reader struct {
	file     *File
	settings map[string]*setting
	sections map[string]bool // keys that have others below them
	order    []string        // of the settings
	faults   []Fault
}

func (p *reader) add(s *setting) {
	p.settings[s.key] = s
	p.order = append(p.order, s.key)
	for at := strings.LastIndexByte(s.key, '.'); at > 0; at = strings.LastIndexByte(s.key[:at], '.') {
		p.sections[s.key[:at]] = true
	}
	if s.preset != "" && s.value.set(s.preset) != nil {
		panic("nodefile: the default of " + s.key + " is not valid") // a slip in the table
	}
}

func (p *reader) fault(line int, key, text string) {
	p.faults = append(p.faults, Fault{line, key, text})
}

// document reads the whole text.
func (p *reader) document(text []byte) {
	tree, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		p.syntax(err)
		return
	}
	var root ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			p.fault(lineOf(doc.Body), "", "a second document: want one")
			return
		}
		root = doc.Body
	}
	if root != nil {
		p.section("", root)
	}
}

// syntax notes why the text is no YAML. The library's own message would quote
// the file.
func (p *reader) syntax(err error) {
	var fault yaml.Error
	if !errors.As(err, &fault) || fault.GetToken() == nil || fault.GetToken().Position == nil {
		p.fault(0, "", "this is not YAML")
		return
	}
	p.fault(fault.GetToken().Position.Line, "", "this is not YAML: "+fault.GetMessage())
}

// section reads the keys below one, "" for those of the document.
func (p *reader) section(key string, node ast.Node) {
	if _, empty := node.(*ast.NullNode); empty {
		return
	}
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		p.fault(lineOf(node), key, "want a section with keys")
		return
	}
	for _, entry := range mapping.Values {
		p.entry(key, entry)
	}
}

func (p *reader) entry(section string, entry *ast.MappingValueNode) {
	line := lineOf(entry.Key)
	name, plain := scalar(entry.Key)
	key := name
	if section != "" {
		key = section + "." + name
	}
	s, known := p.settings[key]
	switch {
	case !plain:
		p.fault(line, section, "want a plain key here, without anchors, tags and merges")
		return
	case later(key):
		p.fault(line, key, "not in this version: leave it out")
		return
	case strings.Contains(name, ".") || !known && !p.sections[key]:
		p.fault(line, key, "unknown key"+p.meant(key))
		return
	}
	if p.twice(line, key) {
		return
	}
	_, mapping := entry.Value.(*ast.MappingNode)
	if _, null := entry.Value.(*ast.NullNode); p.sections[key] && (mapping || null || !known) {
		p.section(key, entry.Value)
		return
	}
	p.value(line, s, entry.Value)
}

// twice notes a key that was there before.
func (p *reader) twice(line int, key string) bool {
	_, before := p.file.lines[key]
	if before {
		p.fault(line, key, "is there twice")
		return true
	}
	p.file.lines[key] = line
	return false
}

func (p *reader) value(line int, s *setting, node ast.Node) {
	text, plain := scalar(node)
	if !plain {
		p.fault(line, s.key, "want "+s.value.want)
		return
	}
	err := s.value.set(text)
	switch {
	case errors.Is(err, errWant):
		p.fault(line, s.key, "want "+s.value.want)
	case err != nil:
		p.fault(line, s.key, err.Error())
	}
}

// scalar returns the text of a plain value, as it stands in the file.
func scalar(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func lineOf(node ast.Node) int {
	if token := node.GetToken(); token != nil && token.Position != nil {
		return token.Position.Line
	}
	return 0
}

// meant guesses which key was meant: one with the same last part elsewhere, or
// one that is nearly the same.
func (p *reader) meant(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, known := range p.order {
		if strings.HasSuffix(known, "."+last) || nearly(known, key) {
			return ": did you mean " + known + "?"
		}
	}
	for section := range p.sections {
		if nearly(section, key) {
			return ": did you mean " + section + "?"
		}
	}
	return ""
}

// nearly reports whether one insertion, deletion or replacement makes b of a.
func nearly(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return a[i+1:] == b[i+1:] || a[i:] == b[i+1:]
		}
	}
	return a != b
}
