// Command cmd runs the benchmark: `make bench`, or
// `go run ./bench/cmd -quick` for a run that only tells whether it works.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"cloakroom/bench"
)

// fixedServer makes this program play the server that answers fixed bytes.
const fixedServer = "fixed-server"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == fixedServer {
		return bench.ServeFixed(args[1], os.Stdout)
	}
	cfg, err := parse(args)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cfg.Ceiling = []string{self, fixedServer}
	report, err := bench.Run(ctx, cfg)
	if report != nil {
		os.Stdout.Write(report.Markdown())
	}
	return err
}

func parse(args []string) (bench.Config, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "everything once, in under a minute; the figures mean nothing")
	cloakroom := flags.String("cloakroom", "bin/cloakroom", "program to measure")
	redis := flags.String("redis", bench.FindRedis(), "redis-server to compare with; empty for none")
	out := flags.String("out", "bench/out", "folder for bench.md and bench.json")
	only := flags.String("only", "", "scenarios, separated by commas: "+strings.Join(bench.Scenarios, ", "))
	people := flags.Int("people", 0, "subjects to load; 0: the usual number")
	rounds := flags.Int("rounds", 0, "rounds for each server; 0: the usual number")
	round := flags.Duration("round", 0, "length of a round; 0: the usual one")
	if err := flags.Parse(args); err != nil {
		return bench.Config{}, err
	}
	cfg := bench.Full()
	if *quick {
		cfg = bench.Quick()
	}
	cfg.Cloakroom, cfg.Redis, cfg.Out, cfg.Log = []string{*cloakroom}, *redis, *out, os.Stderr
	if *people > 0 {
		cfg.People, cfg.MemoryFrom, cfg.ImportRows = *people, max(1, *people/10), *people
	}
	if *rounds > 0 {
		cfg.Rounds = *rounds
	}
	if *round > 0 {
		cfg.Round = *round
	}
	if *only != "" {
		cfg.Only = strings.Split(*only, ",")
	}
	return cfg, nil
}
