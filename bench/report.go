package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run measured; bench.json holds it.
type Report struct {
	Started      time.Time `json:"started"`
	Seconds      float64   `json:"seconds"`
	Machine      Machine   `json:"machine"`
	People       int       `json:"people"`
	Rounds       int       `json:"rounds"`
	RoundSeconds float64   `json:"round_seconds"`
	Connections  int       `json:"connections"`
	Rows         []Row     `json:"rows"`
	Latencies    []Latency `json:"latencies"`
	Writes       []Latency `json:"single_writes,omitempty"` // one after the other
	Memory       []Memory  `json:"memory"`
	Import       *Import   `json:"import,omitempty"`
	Start        *Spread   `json:"start_seconds,omitempty"`
	Nodes        *Nodes    `json:"nodes,omitempty"`
	Replicas     *Replicas `json:"replicas,omitempty"`
	Erasures     *Erasures `json:"erasures,omitempty"`
}

// Spread is a figure over rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Row is one server in one scenario with one batch size. Items are ids or
// subjects.
type Row struct {
	Scenario          string  `json:"scenario"`
	Server            string  `json:"server"`
	Batch             int     `json:"batch"`
	PerSecond         Spread  `json:"items_per_second"`
	PerCPUSecond      Spread  `json:"items_per_server_cpu_second"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	ServerCores       float64 `json:"server_cores"`
	GeneratorCores    float64 `json:"generator_cores"`
	Checked           int64   `json:"replies_checked"`

	rates, perCPU, cores, ownCores, requests []float64
}

// Latency is one open run; times in µs from the intended start.
type Latency struct {
	Server            string  `json:"server"`
	Batch             int     `json:"batch"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	Requests          int64   `json:"requests"`
	P50               float64 `json:"p50_us"`
	P90               float64 `json:"p90_us"`
	P99               float64 `json:"p99_us"`
	P999              float64 `json:"p999_us"`
	Max               float64 `json:"max_us"`
	ServerP99         float64 `json:"server_p99_us,omitempty"` // by the server's own histogram
}

// Memory is the growth of one server; bytes.
type Memory struct {
	Server          string  `json:"server"`
	NameBytes       int     `json:"name_bytes"`
	From            int     `json:"from_subjects"`
	To              int     `json:"to_subjects"`
	Empty           int64   `json:"rss_empty"`
	RSSFrom         int64   `json:"rss_from"`
	RSSTo           int64   `json:"rss_to"`
	BytesPerSubject float64 `json:"bytes_per_subject"`
}

// Import is one run of `cloakroom import`.
type Import struct {
	Nodes         int      `json:"nodes"`
	Rows          int      `json:"rows"`
	Columns       []string `json:"columns"`
	Seconds       float64  `json:"seconds"`
	RowsPerSecond float64  `json:"rows_per_second"`
}

// Nodes is what three nodes in one process cost while nobody calls, and how
// fast a file gets into them.
type Nodes struct {
	IdleSeconds float64 `json:"idle_seconds"`
	IdleCores   float64 `json:"idle_cores"`
	IdleRSS     int64   `json:"idle_rss"`
	Import      *Import `json:"import,omitempty"`
}

// Replicas is three nodes without their front doors, beside bare raft;
// deposits are single ones, acknowledged, a second.
type Replicas struct {
	Groups      int    `json:"groups"`
	Clients     int    `json:"clients"`
	EntryBytes  int    `json:"entry_bytes"`
	AtLeader    Spread `json:"deposits_at_the_leader"`
	AtEveryNode Spread `json:"deposits_at_every_node"`
	BareRaft    Spread `json:"bare_raft"`

	Deaths         int    `json:"deaths"`
	ShardsLed      int    `json:"shards_led"`
	BackAfter      Spread `json:"writes_back_after_seconds"`
	WorstOfADeath  Spread `json:"slowest_shard_of_a_death_seconds"`
	RejoinedWithin Spread `json:"whole_again_after_seconds"`
}

// Erasures is what three nodes without their front doors do with erasures,
// from the request until one may be acknowledged, and how long reads at the
// survivors take at most while the leader of their shards dies.
type Erasures struct {
	AllWell            Spread `json:"all_well_seconds"`
	OneStandsStill     Spread `json:"one_replica_stands_still_seconds"`
	ReadsThroughDeaths int    `json:"reads_through_deaths"`
	SlowestRead        Spread `json:"slowest_read_of_a_death_seconds"`
}

func (row *Row) summarise() {
	row.PerSecond, row.PerCPUSecond = *spreadOf(row.rates), *spreadOf(row.perCPU)
	row.RequestsPerSecond = spreadOf(row.requests).Median
	row.ServerCores, row.GeneratorCores = spreadOf(row.cores).Median, spreadOf(row.ownCores).Median
}

func spreadOf(figures []float64) *Spread {
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	if n == 0 {
		return &Spread{}
	}
	return &Spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

func (l *Latency) fill(h *hdrhistogram.Histogram) {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	l.P50, l.P90, l.P99, l.P999, l.Max = at(50), at(90), at(99), at(99.9), float64(h.Max())/1e3
}

// find returns the rows of a scenario for the contenders, in their order.
func (r *Report) find(scenario string, batch int, all []*contender) (found []Row) {
	for _, c := range all {
		for _, row := range slices.Backward(r.Rows) {
			if row.Scenario == scenario && row.Batch == batch && row.Server == c.name {
				found = append(found, row)
				break
			}
		}
	}
	return found
}

// Save writes bench.json and bench.md into the folder.
func (r *Report) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	for name, content := range map[string][]byte{"bench.json": text, "bench.md": r.Markdown()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("save report: %w", err)
		}
	}
	return nil
}
