package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cloakroom/client"
)

// nodeStatus is what the overview shows of a node's status document.
type nodeStatus struct {
	Version, Cluster, Recovery string
	Ready, Sealed              bool
	Stage, Fingerprint         string
	SinglePerson               bool `json:"single_person"`
	Unseal                     *client.UnsealStatus
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
	Node  string
	Nodes []struct {
		Name  string
		Alive bool
	}
	ClockSkew bool `json:"clock_skew"`
	Directory groupOverview
	Shards    []groupOverview
}

// groupOverview is what is shown of one Raft group.
type groupOverview struct {
	Leader, Role, Parked string
	Leading, Majority    bool
	Tolerates            int
	Lag                  uint64
	Subjects             int
	Members              []struct {
		Node, State string
		Alive       bool
	}
}

// overview turns a status document into the rows a person wants to see first;
// --json shows all of it.
func overview(document []byte) ([][]string, error) {
	var s nodeStatus
	if err := json.Unmarshal(document, &s); err != nil {
		return nil, err
	}
	if s.Shards == nil {
		return s.public(), nil
	}
	rows := [][]string{
		{"ready", yesNo(s.Ready)},
		{"version", s.Version},
		{"cluster", s.Cluster},
		{"recovery", s.Recovery},
		{"subjects", fmt.Sprintf("%d, and %d erased", s.Subjects, s.Erased)},
		{"schema epoch", fmt.Sprint(s.Schema)},
		{"nodes", s.nodes()},
		{"directory", fmt.Sprintf("led by %s, %s", cmp.Or(s.Directory.Leader, "nobody"), s.Directory.tolerance())},
		{"shards", s.shards()},
		{"keys and buffers", fmt.Sprintf("%s, lock %s, %s locked", s.Memory.Backend, s.Memory.Lock, size(s.Memory.Locked["keys"]+s.Memory.Locked["pool"]))},
		{"record memory", fmt.Sprintf("%s of %s used, locked: %s", size(s.Arena.Used), size(s.Arena.Limit), yesNo(s.Memory.ArenaLocked))},
		{"request buffers", fmt.Sprintf("%s of %s in use, %d requests refused", size(s.Pool.InUse), size(s.Pool.Total), s.Pool.Refused)},
		{"register erasure", s.Memory.Erasure},
	}
	if s.SinglePerson {
		rows = append(rows, singlePerson)
	}
	if s.ClockSkew {
		rows = append(rows, []string{"clocks", "no majority agrees: nothing expires"})
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

var singlePerson = []string{"single person", "one person can read everything: no second approval, no custodian"}

// public are the rows of what a node tells anybody.
func (s *nodeStatus) public() [][]string {
	rows := [][]string{{"node", s.Node}, {"stage", s.Stage}, {"ready", yesNo(s.Ready)}, {"version", s.Version}}
	for _, row := range [][]string{{"cluster", s.Cluster}, {"fingerprint", s.Fingerprint}} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	if s.SinglePerson {
		rows = append(rows, singlePerson)
	}
	if u := s.Unseal; s.Sealed && u != nil {
		text := fmt.Sprintf("%d of %d shares given", u.Given, u.Needed)
		if u.Given > 0 {
			text += fmt.Sprintf(", forgotten in %v", time.Duration(u.LapsesSec)*time.Second)
		}
		rows = append(rows, []string{"unseal", text})
	}
	if !s.Sealed {
		rows = append(rows, []string{"more", "with the token of an operator: --token-file"})
	}
	return rows
}

// nodes says who is there.
func (s *nodeStatus) nodes() string {
	var names []string
	for _, n := range s.Nodes {
		switch {
		case n.Name == s.Node:
			names = append(names, n.Name+" (this one)")
		case n.Alive:
			names = append(names, n.Name)
		default:
			names = append(names, n.Name+" (not heard of)")
		}
	}
	return strings.Join(names, ", ")
}

// shards says how the shards are, in one line.
func (s *nodeStatus) shards() string {
	led := 0
	var least *groupOverview
	var notable []string
	for i := range s.Shards {
		shard := &s.Shards[i]
		if shard.Leading {
			led++
		}
		if least == nil || shard.margin() < least.margin() {
			least = shard
		}
		if text := shard.notable(); text != "" {
			notable = append(notable, fmt.Sprintf("shard %d %s", i, text))
		}
	}
	line := fmt.Sprintf("%d, %d led here", len(s.Shards), led)
	switch {
	case least == nil || !least.Majority:
	case least.Leader == "":
		line += ", tolerated losses not known during an election"
	default:
		line += ", each tolerates the loss of " + nodesWord(least.Tolerates)
	}
	const few = 4
	if len(notable) > few {
		notable = append(notable[:few], fmt.Sprintf("%d more (shards list)", len(notable)-few))
	}
	return strings.Join(append([]string{line}, notable...), "; ")
}

func nodesWord(n int) string {
	switch n {
	case 0:
		return "no node"
	case 1:
		return "one node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// margin orders groups by how near they are to a stop.
func (g *groupOverview) margin() int {
	switch {
	case !g.Majority:
		return -2
	case g.Leader == "":
		return -1
	}
	return g.Tolerates
}

// tolerance says what a group can lose.
func (g *groupOverview) tolerance() string {
	switch {
	case !g.Majority:
		return "has no majority: answers nothing"
	case g.Leader == "":
		return "tolerated losses not known during an election"
	}
	return "tolerates the loss of " + nodesWord(g.Tolerates)
}

// notable says what is out of order with a group, as this node sees it.
func (g *groupOverview) notable() string {
	switch {
	case g.Parked != "":
		return "stopped here: " + g.Parked
	case !g.Majority:
		return "has no majority: answers nothing"
	case g.Leader == "":
		return "has no leader"
	case g.Role == "catching-up":
		return fmt.Sprintf("is catching up here, %d entries behind", g.Lag)
	}
	return ""
}

// shardRows are the shards as a table, the directory first.
func shardRows(document []byte) ([][]string, error) {
	var s nodeStatus
	if err := json.Unmarshal(document, &s); err != nil {
		return nil, err
	}
	rows := [][]string{{"shard", "leader", "role here", "tolerates", "lag", "subjects", "replicas", ""}}
	add := func(name string, g *groupOverview) {
		var members []string
		for _, m := range g.Members {
			text := m.Node
			if m.State != "voter" {
				text += " " + m.State
			}
			if !m.Alive {
				text += " (not heard of)"
			}
			members = append(members, text)
		}
		losses := nodesWord(g.Tolerates)
		switch {
		case !g.Majority:
			losses = "no majority"
		case g.Leader == "":
			losses = "not known"
		}
		rows = append(rows, []string{name, cmp.Or(g.Leader, "none"), g.Role, losses, fmt.Sprint(g.Lag),
			fmt.Sprint(g.Subjects), strings.Join(members, ", "), g.Parked})
	}
	add("directory", &s.Directory)
	for i := range s.Shards {
		add(fmt.Sprint(i), &s.Shards[i])
	}
	rows[1][5] = ""
	return rows, nil
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
