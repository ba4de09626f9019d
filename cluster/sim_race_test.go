//go:build race

package cluster

// raceEnabled: everything takes ten times as long.
const raceEnabled = true
