//go:build linux

package hosts

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// fine fails a test for the requests that failed since the last look. On a
// machine that is busy with other tests one in fifty may: an erasure whose shard
// moves while the leases of its readers run out is 504 now and then. STRICT=1
// wants none.
func (l *Load) fine(t *testing.T, during string, before Tally) Tally {
	t.Helper()
	now := l.Tally()
	t.Logf("%s: %d requests, %d failed", during, now.Asked-before.Asked, len(now.Failed)-len(before.Failed))
	failed := now.Failed[len(before.Failed):]
	if os.Getenv("STRICT") != "" || len(failed)*50 > now.Asked-before.Asked {
		report(t, "failed: "+during, failed)
	}
	for _, f := range failed {
		t.Log("  ", f)
	}
	return now
}

// awaitRequests waits until so many were made.
func (l *Load) awaitRequests(t *testing.T, n int) {
	t.Helper()
	Await(t, 30*time.Second, func() error {
		if got := l.Tally().Asked; got < n {
			return fmt.Errorf("%d requests were made", got)
		}
		return nil
	})
}

// must runs a command of the operator's at a node.
func (n *Node) must(args ...string) string {
	n.fleet.t.Helper()
	return n.fleet.Do(append(args, n.At("operator")...)...)
}

// Three machines become a cluster, are worked on, and lose one after the
// other: killed, cut off, drained, removed, replaced. Nothing that was
// acknowledged is lost, and what an operator does costs no request.
func TestThreeMachines(t *testing.T) {
	land := NewLand(t)
	f, n1 := three(t, land)
	token := f.Principal(n1, "worker", workerGrant...)
	first := []string{"--addr", n1.URL(), "--token-file", f.token("worker"), "--fingerprint", f.Fingerprint}
	id := strings.TrimSpace(f.Feed(`{"display_name":"Ada Lovelace"}`, append([]string{"deposit"}, first...)...))
	if out := f.Do(append([]string{"resolve", id, "--field", "display_name"}, first...)...); !strings.Contains(out, "Ada Lovelace") {
		t.Errorf("resolved: %q", out)
	}
	load := f.Work(token, 4, 40*time.Millisecond, f.Serving)
	load.awaitRequests(t, 30)
	load.fine(t, "at rest", Tally{})

	f.Node("n2").Process().Kill()
	f.Node("n2").Run("")
	t.Logf("killed and back: settled after %v", f.AwaitSettled(3, time.Minute))
	land.Cut("n3", "n1")
	land.Cut("n3", "n2")
	Await(t, 30*time.Second, func() error {
		if list, err := n1.List(); err != nil || list["n3"].Alive {
			return fmt.Errorf("n3 is cut off: %v, %v", list["n3"], err)
		}
		return nil
	})
	land.Heal("n3", "n1")
	land.Heal("n3", "n2")
	t.Logf("cut off and back: settled after %v", f.AwaitSettled(3, time.Minute))
	at := load.Tally() // what the kill and the cut cost is not counted

	f.Join(n1, "n4")
	Await(t, time.Minute, func() error { return n1.Balanced("n1", "n2", "n3", "n4") })
	at = load.fine(t, "a fourth node joins", at)
	n1.must("nodes", "drain", "n1")
	n1.SendAway()
	at = load.fine(t, "a node is drained", at)
	n2 := f.Node("n2")
	f.Principal(n2, "second", workerGrant...) // the command line gets to know n2
	n2.must("nodes", "remove", "n1")
	n1.Process().AwaitEnd(t, 30*time.Second)
	t.Logf("drained and removed: settled after %v", f.AwaitSettled(3, time.Minute))
	load.fine(t, "a node is removed", at)

	f.Node("n3").Process().Kill()
	n2.must("nodes", "remove", "n3", "--dead")
	f.Join(n2, "n5")
	t.Logf("replaced: settled after %v", f.AwaitSettled(3, time.Minute))
	tally := load.Stop()
	t.Logf("%d requests of %d subjects, %d failed, slowest %v", tally.Asked, tally.Subjects, len(tally.Failed), tally.Slowest)
	report(t, "wrong", append(tally.Wrong, load.Verify()...))
}

// All nodes are restarted, one after the other, as for an upgrade: the second
// time with another build. It costs no request and loses nothing.
func TestRollingUpgrade(t *testing.T) {
	f, n1 := three(t, nil)
	load := f.Work(f.Principal(n1, "worker", workerGrant...), 4, 40*time.Millisecond, f.Serving)
	load.awaitRequests(t, 30)
	at := load.fine(t, "at rest", Tally{})
	begun := time.Now()
	f.Program = program(t, "v0.0.0-next")
	for _, name := range []string{"n1", "n2", "n3"} {
		n := f.Node(name)
		Await(t, time.Minute, func() error {
			if _, trouble, code := f.Try(append([]string{"nodes", "safe-to-stop", name}, n1.At("operator")...)...); code != 0 {
				return fmt.Errorf("exit code %d: %s", code, trouble)
			}
			return nil
		})
		if err := n.Process().Stop(30 * time.Second); err != nil {
			t.Fatalf("stop %s: %v\n%s", name, err, n.Process().Log())
		}
		n.Run("")
		f.AwaitSettled(3, time.Minute)
		at = load.fine(t, name+" is restarted", at)
	}
	t.Logf("three nodes upgraded in %v", time.Since(begun))
	if out := n1.must("status"); !strings.Contains(out, "v0.0.0-next") {
		t.Errorf("not the new version:\n%s", out)
	}
	tally := load.Stop()
	report(t, "wrong", append(tally.Wrong, load.Verify()...))
}
