package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// quick returns a configuration small enough for a test.
func quick(t *testing.T) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Quick()
	cfg.Cloakroom, cfg.Ceiling = []string{self, "fake-cloakroom"}, []string{self, "fixed-server"}
	cfg.Redis, cfg.Out, cfg.Log = FindRedis(), t.TempDir(), t.Output()
	cfg.People, cfg.MemoryFrom, cfg.ImportRows = 4000, 1000, 500
	// Long enough for one reply on a machine with other work.
	cfg.Round, cfg.WarmUp = 120*time.Millisecond, 10*time.Millisecond
	return cfg
}

// TestSmoke runs every scenario against a store that answers as the API does,
// and against Redis where there is one.
func TestSmoke(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc to measure processes with")
	}
	cfg := quick(t)
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, report, cfg)
	if report.Import == nil || report.Start == nil || report.Start.Median <= 0 {
		t.Errorf("import %v, start %v", report.Import, report.Start)
	}
	for _, l := range report.Latencies {
		if l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
			t.Errorf("latency %+v", l)
		}
		if (l.Server != "Redis") != (l.ServerP99 > 0) {
			t.Errorf("latency inside %s: %v", l.Server, l.ServerP99)
		}
	}
	if len(report.Writes) != 8 {
		t.Errorf("single writes %+v", report.Writes)
	}
	if n := report.Nodes; n == nil || n.Import == nil || n.IdleRSS <= 0 {
		t.Errorf("nodes %+v", n)
	}
	if p := report.Replicas; p == nil || p.AtLeader.Min <= 0 || p.AtEveryNode.Min <= 0 || p.BareRaft.Min <= 0 || p.BackAfter.Max <= 0 {
		t.Errorf("replicas %+v", p)
	}
	if e := report.Erasures; e == nil || e.AllWell.Min <= 0 || e.OneStandsStill.Min <= 0 || e.ReadsThroughDeaths == 0 {
		t.Errorf("erasures %+v", e)
	}
	for _, m := range report.Memory {
		if m.Empty <= 0 || m.RSSTo < m.Empty {
			t.Errorf("memory %+v", m)
		}
	}
	text, err := os.ReadFile(filepath.Join(cfg.Out, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var saved Report
	if err := json.Unmarshal(text, &saved); err != nil || len(saved.Rows) != len(report.Rows) {
		t.Errorf("bench.json holds %d rows, %v, want %d", len(saved.Rows), err, len(report.Rows))
	}
	tables, err := os.ReadFile(filepath.Join(cfg.Out, "bench.md"))
	if err != nil || !strings.Contains(string(tables), "| Cloakroom, HTTPS | 100 |") {
		t.Errorf("bench.md: %v:\n%s", err, tables)
	}
}

func checkRows(t *testing.T, report *Report, cfg Config) {
	t.Helper()
	for _, row := range report.Rows {
		if row.PerSecond.Median <= 0 || row.PerSecond.Min > row.PerSecond.Max || row.PerCPUSecond.Median <= 0 {
			t.Errorf("row %+v", row)
		}
		if row.Checked == 0 && !strings.HasPrefix(row.Scenario, "ceiling") {
			t.Errorf("no reply checked: %+v", row)
		}
	}
	servers := []string{"Cloakroom, HTTP", "Cloakroom, HTTPS"}
	if cfg.Redis != "" {
		servers = append(servers, "Redis")
	}
	for _, server := range servers {
		for _, batch := range cfg.Batches {
			if !slices.ContainsFunc(report.Rows, func(r Row) bool {
				return strings.HasPrefix(r.Scenario, uniform) && r.Server == server && r.Batch == batch
			}) {
				t.Errorf("no row for %s with batches of %d", server, batch)
			}
		}
	}
}

// TestWrongAnswersEndTheRun: a server that is fast because it lies must not
// get a figure.
func TestWrongAnswersEndTheRun(t *testing.T) {
	cfg := quick(t)
	cfg.Cloakroom = append(cfg.Cloakroom, "lie")
	cfg.Redis, cfg.Only = "", []string{"http"}
	report, err := Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "another name") {
		t.Fatalf("got %v", err)
	}
	if len(report.Rows) != 0 {
		t.Errorf("got rows %+v", report.Rows)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no program":      func(c *Config) { c.Cloakroom = nil },
		"no people":       func(c *Config) { c.People = 0 },
		"no rounds":       func(c *Config) { c.Rounds = 0 },
		"no time":         func(c *Config) { c.Round = 0 },
		"no slope":        func(c *Config) { c.MemoryFrom = c.People },
		"no scenario":     func(c *Config) { c.Only = []string{"lunch"} },
		"batch too large": func(c *Config) { c.Batches = []int{c.People + 1} },
	} {
		cfg := Quick()
		cfg.Cloakroom = []string{"/no/such/program"}
		spoil(&cfg)
		if err := cfg.complete(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
