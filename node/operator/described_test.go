package operator

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestEveryCallIsDescribed holds docs/operator.md to the table of calls: which
// there are, and what each needs.
func TestEveryCallIsDescribed(t *testing.T) {
	text, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) > 3 && strings.HasPrefix(cells[1], " `") {
			described[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	routes := slices.Concat(healthRoutes[:], keyRoutes[:], memberRoutes[:], entryRoutes[:], rightsRoutes[:], rollRoutes[:], domainRoutes[:])
	for _, r := range routes {
		needs, there := described[r.method+" "+r.path]
		var actions []string
		for _, action := range r.any {
			actions = append(actions, string(action))
		}
		if want := strings.Join(actions, ", "); !there || !strings.HasPrefix(needs, want) || want == "" && needs != "" {
			t.Errorf("%s %s: described %v, needs %q, want %q", r.method, r.path, there, needs, want)
		}
		delete(described, r.method+" "+r.path)
	}
	for call := range described {
		t.Errorf("%s is described and not there", call)
	}
}
