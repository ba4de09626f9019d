package main

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"cloakroom/node"
)

// A node hears of a death seconds late, and of its own neighbours not always:
// what it heard must not decide who may be killed.
func TestAStaleWitnessDecidesNothing(t *testing.T) {
	n1, n2, n3 := node.Voter{Node: "n1", Life: "a"}, node.Voter{Node: "n2", Life: "b"}, node.Voter{Node: "n3", Life: "c"}
	again := node.Voter{Node: "n2", Life: "d"} // n2 came back with nothing
	groups := []node.GroupHealth{
		{Name: "directory", Quorum: 2, Voters: []node.Voter{n1, n2, n3}},
		{Name: "shard 0", Quorum: 1, Voters: []node.Voter{n1}},
		{Name: "shard 1", Quorum: 2, Voters: []node.Voter{n1, again, n3}},
	}
	all := []string{"directory", "shard 0", "shard 1"}
	for _, test := range []struct {
		name    string
		living  []node.Voter
		without node.Voter
		want    []string
	}{
		{"all live", []node.Voter{n1, n2, n3}, node.Voter{}, []string(nil)},
		{"n2 lives anew, nobody else is touched", []node.Voter{n1, again, n3}, node.Voter{}, nil},
		{"n2 lives anew, its old voter counts for nothing", []node.Voter{n1, again, n3}, n3, []string{"directory"}},
		{"n2 is dead", []node.Voter{n1, n3}, n3, []string{"directory", "shard 1"}},
		{"n2 is dead, n1 the only one of a shard", []node.Voter{n1, n3}, n1, all},
		{"two are dead", []node.Voter{n3}, node.Voter{}, all},
	} {
		living := map[node.Voter]bool{}
		for _, v := range test.living {
			living[v] = true
		}
		got := losing(groups, living, test.without)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// The fleet reads no liveness from its witness: right after two deaths, which
// nobody can have noticed yet, it says what is lost.
func TestAKillRightAfterAKill(t *testing.T) {
	f := liveFleet(t, 3)
	if err := f.kill(2, false); err != nil {
		t.Fatal(err)
	}
	if err := f.kill(3, false); err == nil {
		t.Error("a kill that costs the majority passed")
	}
	if lost := f.atRisk(nil); len(lost) > 0 {
		t.Errorf("lost already: %v", lost)
	}
	if err := f.kill(3, true); err != nil {
		t.Fatal(err)
	}
	if lost, want := f.atRisk(nil), len(f.seats[0].node.Health().Groups); len(lost) != want {
		t.Errorf("%d groups are lost, want %d", len(lost), want)
	}
}

// liveFleet starts a fleet in this process.
func liveFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f, err := newFleet(n, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.hooks = &devHooks{}
	f.config = func() node.Config {
		cfg := node.DevConfig([]byte("token"))
		cfg.KeepDumpable, cfg.Shards, cfg.Memory.Limit = true, 4, 64<<20
		return cfg
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// What dev tells to try works as printed, also on ports that nobody chose.
func TestThePrintedOrderWorks(t *testing.T) {
	program, err := exec.LookPath("cloakroom") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", shortFolder(t))
	t.Setenv("CLOAKROOM_CONTROL", "")
	dev := exec.Command(program, "dev", "--nodes", "3", "--listen", "127.0.0.1:0", "--memory-limit", "256MiB")
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = dev.Process.Signal(os.Interrupt)
		if err := dev.Wait(); err != nil {
			t.Errorf("dev ended: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	for _, verb := range []string{"kill 2", "restart 2"} {
		line := ""
		for !strings.HasSuffix(line, " "+verb) && lines.Scan() {
			line = lines.Text()
		}
		said, err := exec.Command("sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, said)
		}
	}
}

// A kill that is refused says what would make it safe.
func TestWhyANodeMustNotDie(t *testing.T) {
	for _, test := range []struct {
		states []seatState
		want   string
	}{
		{[]seatState{dying}, "one node tolerates no loss"},
		{[]seatState{dying, alive}, "two nodes tolerate no loss"},
		{[]seatState{dying, alive, dead}, "node 3 is dead: restart it first"},
		{[]seatState{dying, starting, alive}, "catching up: wait"},
		{[]seatState{dying, alive, alive}, "catching up: wait"},
	} {
		f := &fleet{}
		for _, state := range test.states {
			f.seats = append(f.seats, &seat{state: state})
		}
		if got := f.remedy(f.seats[0]); !strings.Contains(got, test.want) {
			t.Errorf("%v: %q, want %q", test.states, got, test.want)
		}
	}
}
