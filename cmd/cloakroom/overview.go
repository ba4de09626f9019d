package main

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// nodeStatus is what the overview shows of a node's status document.
type nodeStatus struct {
	Version, Cluster, Recovery string
	Ready                      bool
	Subjects, Erased           int
	Schema                     int `json:"schema_epoch"`
	Memory                     struct {
		Backend, Lock, Erasure string
		ArenaLocked            bool `json:"arena_locked"`
		Locked                 map[string]int64
		Hardening              []struct {
			Name, Detail string
			OK           bool
		}
	}
	Arena struct{ Limit, Used, Mapped int64 }
	Pool  struct {
		Total   int64
		InUse   int64 `json:"in_use"`
		Refused int64
	}
	Shards []struct {
		Leading   bool
		Tolerates int
		Parked    string
	}
}

// overview turns a status document into the rows a person wants to see first;
// --json shows all of it.
func overview(document []byte) ([][]string, error) {
	var s nodeStatus
	if err := json.Unmarshal(document, &s); err != nil {
		return nil, err
	}
	rows := [][]string{
		{"ready", yesNo(s.Ready)},
		{"version", s.Version},
		{"cluster", s.Cluster},
		{"recovery", s.Recovery},
		{"subjects", fmt.Sprintf("%d, and %d erased", s.Subjects, s.Erased)},
		{"schema epoch", fmt.Sprint(s.Schema)},
		{"shards", s.shards()},
		{"keys and buffers", fmt.Sprintf("%s, lock %s, %s locked", s.Memory.Backend, s.Memory.Lock, size(s.Memory.Locked["keys"]+s.Memory.Locked["pool"]))},
		{"record memory", fmt.Sprintf("%s of %s used, locked: %s", size(s.Arena.Used), size(s.Arena.Limit), yesNo(s.Memory.ArenaLocked))},
		{"request buffers", fmt.Sprintf("%s of %s in use, %d requests refused", size(s.Pool.InUse), size(s.Pool.Total), s.Pool.Refused)},
		{"register erasure", s.Memory.Erasure},
	}
	for _, check := range s.Memory.Hardening {
		state := "holds"
		if !check.OK {
			state = "does not hold"
		}
		rows = append(rows, []string{"hardening: " + check.Name, state + ": " + check.Detail})
	}
	return rows, nil
}

// shards says how the shards are, in one line.
func (s *nodeStatus) shards() string {
	leading, tolerates := 0, 0
	var parked []string
	for i, shard := range s.Shards {
		if shard.Leading {
			leading++
		}
		if i == 0 || shard.Tolerates < tolerates {
			tolerates = shard.Tolerates
		}
		if shard.Parked != "" {
			parked = append(parked, fmt.Sprintf("shard %d stopped: %s", i, shard.Parked))
		}
	}
	sort.Strings(parked)
	line := fmt.Sprintf("%d, %d in service, each tolerates the loss of %d replicas", len(s.Shards), leading, tolerates)
	return strings.Join(append([]string{line}, parked...), "; ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// size writes bytes the way people read them.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
