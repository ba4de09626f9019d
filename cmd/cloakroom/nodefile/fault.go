package nodefile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	Line int    // from 1; 0: not of one line
	Key  string // "" if it is about none
	Text string // what is wrong, and what is expected
}

// String is "line 7: api.listen: …".
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Text
}

// Faults is an error: everything that is wrong with a file.
type Faults struct {
	Path string
	List []Fault // by line, those of no line last
}

// Error says how many there are; [Faults.Lines] lists them.
func (f Faults) Error() string {
	if len(f.List) == 1 {
		return f.Path + " has a fault"
	}
	return fmt.Sprintf("%s has %d faults", f.Path, len(f.List))
}

// Lines returns one text for each fault.
func (f Faults) Lines() []string {
	lines := make([]string, len(f.List))
	for i, fault := range f.List {
		lines[i] = fault.String()
	}
	return lines
}

func (p *reader) sorted() []Fault {
	slices.SortStableFunc(p.faults, func(a, b Fault) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return p.faults
}
