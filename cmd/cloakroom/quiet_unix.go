//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// noPreemption is the setting of the Go runtime that keeps it from stopping
// threads by signals.
const noPreemption = "asyncpreemptoff=1"

// quiet starts this program anew, with the same process id and files, in a
// runtime that sends itself no signals. To hand a signal to a thread the
// kernel writes all its registers onto the signal stack, and the runtime saves
// vector registers in a buffer of its own; pieces of names and whole rows of
// round keys were found in both, in dumps taken long after the work was done.
// The runtime reads this setting at its very start only, hence the new start.
//
// Without such signals a loop that calls nothing runs to its end before the
// collector gets its turn; in a node those end in microseconds.
func quiet() error {
	settings, set := os.LookupEnv("GODEBUG")
	if strings.Contains(settings, noPreemption) {
		return nil
	}
	if set && settings != "" {
		settings += ","
	}
	if err := os.Setenv("GODEBUG", settings+noPreemption); err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	return fmt.Errorf("start anew: %w", syscall.Exec(program, os.Args, os.Environ()))
}
