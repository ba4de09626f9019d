// Package bench measures Cloakroom beside Redis on one machine: the same
// people, the same ids asked for in the same order, the same load generator,
// rounds that take turns. It prints a table and writes it as Markdown and
// JSON. What a figure means and how it came about is in README.md.
//
// The servers are child processes on loopback, stopped by their own process
// id. Nothing here runs inside a node.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"cloakroom/internal/people"
)

// Config says what to measure, and how long.
type Config struct {
	Cloakroom []string // program and first arguments; required
	Redis     string   // program; "" leaves Redis out
	Ceiling   []string // program and first arguments of the fixed server; nil leaves it out
	Out       string   // folder for bench.md and bench.json; "" writes no files
	Log       io.Writer

	People       int // subjects that are loaded
	MemoryFrom   int // subjects at the lower end of the memory slope
	ImportRows   int
	Seed         uint64
	Connections  int
	Rounds       int
	Round        time.Duration
	WarmUp       time.Duration
	Settle       time.Duration // memory must stand still so long before it is read
	Batches      []int         // ids in one resolve
	DepositSizes []int         // subjects in one deposit
	Starts       int           // times the server is started for the time to ready
	Clients      int           // that write to three nodes at the same time
	Deaths       int           // of a node
	Idle         time.Duration // three nodes are left alone for so long
	SingleWrites int           // of one kind, one after the other
	Only         []string
}

// Scenarios are the parts of a run, in order; Config.Only picks some.
var Scenarios = []string{"http", "https", "memory", "deposits", "import", "start", "nodes", "replicas", "consistency"}

// Full returns the configuration of the published figures.
func Full() Config {
	return Config{
		People: 1_000_000, MemoryFrom: 100_000, ImportRows: 1_000_000, Seed: 1, Connections: 32,
		Rounds: 5, Round: 2 * time.Second, WarmUp: 300 * time.Millisecond, Settle: 15 * time.Second,
		Batches: []int{1, 10, 100, 1000}, DepositSizes: []int{1, 10, 100, 1000, 10_000}, Starts: 5,
		Clients: 256, Deaths: 10, Idle: 20 * time.Second, SingleWrites: 5000,
	}
}

// Quick returns a configuration that does everything once in under a minute;
// its figures only tell whether it works.
func Quick() Config {
	return Config{
		People: 20_000, MemoryFrom: 5_000, ImportRows: 5_000, Seed: 1, Connections: 8,
		Rounds: 2, Round: 150 * time.Millisecond, WarmUp: 50 * time.Millisecond, Settle: 200 * time.Millisecond,
		Batches: []int{1, 100}, DepositSizes: []int{1, 1000}, Starts: 2,
		Clients: 16, Deaths: 1, Idle: 500 * time.Millisecond, SingleWrites: 100,
	}
}

func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = io.Discard
	}
	if len(c.Only) == 0 {
		c.Only = Scenarios
	}
	var faults []error
	if len(c.Cloakroom) == 0 {
		faults = append(faults, errors.New("no program to measure"))
	}
	for _, n := range []int{c.People, c.MemoryFrom, c.ImportRows, c.Connections, c.Rounds, c.Starts, c.Clients, c.Deaths, c.SingleWrites} {
		if n <= 0 {
			faults = append(faults, errors.New("counts must be above zero"))
			break
		}
	}
	if c.MemoryFrom >= c.People {
		faults = append(faults, errors.New("the memory slope must begin below the number of people"))
	}
	if c.Round <= 0 || c.WarmUp < 0 {
		faults = append(faults, errors.New("rounds must last"))
	}
	for _, name := range c.Only {
		if !slices.Contains(Scenarios, name) {
			faults = append(faults, fmt.Errorf("no scenario %q, there are %s", name, strings.Join(Scenarios, ", ")))
		}
	}
	for _, n := range slices.Concat(c.Batches, c.DepositSizes) {
		if n <= 0 || n > c.People {
			faults = append(faults, fmt.Errorf("batch of %d", n))
		}
	}
	return errors.Join(faults...)
}

// run is one run of the benchmark.
type run struct {
	Config
	crowd  *people.People
	token  string
	report Report
}

// Run measures what cfg asks for. The report holds what was measured up to an
// error, too.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	crowd, err := people.New(people.Config{Seed: cfg.Seed})
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r := &run{Config: cfg, crowd: crowd, token: newToken()}
	r.report = Report{Started: time.Now().UTC(), Machine: machine(ctx, cfg), People: cfg.People,
		Rounds: cfg.Rounds, RoundSeconds: cfg.Round.Seconds(), Connections: cfg.Connections}
	scenarios := map[string]func(context.Context) error{
		"http":        func(ctx context.Context) error { return r.reads(ctx, false) },
		"https":       func(ctx context.Context) error { return r.reads(ctx, true) },
		"memory":      r.memory,
		"deposits":    r.deposits,
		"import":      r.imports,
		"start":       r.starts,
		"nodes":       r.nodes,
		"replicas":    r.replicated,
		"consistency": r.consistency,
	}
	for _, name := range cfg.Only {
		r.logf("== %s", name)
		if err := scenarios[name](ctx); err != nil {
			return &r.report, fmt.Errorf("bench %s: %w", name, err)
		}
	}
	r.report.Seconds = time.Since(r.report.Started).Seconds()
	if cfg.Out != "" {
		if err := r.report.Save(cfg.Out); err != nil {
			return &r.report, fmt.Errorf("bench: %w", err)
		}
	}
	return &r.report, nil
}

func (r *run) logf(format string, args ...any) {
	fmt.Fprintf(r.Log, format+"\n", args...)
}

// FindRedis returns the Redis server of this machine, or "".
func FindRedis() string {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return ""
	}
	return path
}
