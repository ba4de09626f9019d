package replica

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// After a thousand changes of leader everything is where it was.
func TestAThousandLeaderChangesLeaveNothingBehind(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	names := []string{"a", "b", "c"}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	at := 0
	turn := func(times int) {
		for range times {
			lead := g.peers[names[at]]
			at = (at + 1) % 3
			for {
				err := lead.TransferLead(ctx, g.peers[names[at]].self)
				if err == nil {
					break
				}
				if ctx.Err() != nil || !lead.Leads() {
					t.Fatalf("transfer: %v", err)
				}
			}
			if err := g.peers[names[at]].AwaitLead(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	mapped := func() (n int) {
		for _, p := range g.peers {
			n += p.mem.now()
		}
		return n
	}
	turn(20)
	goroutines, bytes, lines := runtime.NumGoroutine(), mapped(), g.net.alive()
	turn(1000)
	g.write(g.peers[names[at]], 100)
	await(t, "goroutines and connections are as many as before", func() bool {
		return runtime.NumGoroutine() <= goroutines && g.net.alive() <= lines
	})
	if now := mapped(); now > bytes {
		t.Errorf("mapped: got %d bytes, want %d", now, bytes)
	}
	g.same("a", "b", "c")
}

// conduit is a pair of wires with nothing in between.
func conduit(t *testing.T) (dialled, accepted *wire, near, far *streams) {
	a, b := net.Pipe()
	near, far = newStreams("at-a", nil), newStreams("at-b", nil)
	dialled, accepted = near.track(a, "at-b"), far.track(b, "")
	t.Cleanup(func() { dialled.Close(); accepted.Close(); near.Close(); far.Close() })
	return dialled, accepted, near, far
}

func closed(w *wire) bool {
	w.Conn.SetReadDeadline(time.Unix(1, 0))
	_, err := w.Conn.Read(make([]byte, 1))
	return errors.Is(err, io.ErrClosedPipe)
}

// A write that nobody takes is cut at the second look, one that moves is not.
func TestStalledWriteIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, near, _ := conduit(t)
		done := make(chan error, 1)
		go func() {
			_, err := dialled.Write(make([]byte, 10*stride))
			done <- err
		}()
		near.sweep()
		for range 5 { // slowly, but it moves
			io.ReadFull(accepted.Conn, make([]byte, stride))
			synctest.Wait()
			near.sweep()
		}
		select {
		case err := <-done:
			t.Fatalf("a write that moves: %v", err)
		default:
		}
		near.sweep()
		if err := <-done; err == nil {
			t.Error("a stalled write: got no error")
		}
	})
}

// The rest of a request must come; the next request may take its time.
func TestStalledRequestIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, _, far := conduit(t)
		done := make(chan error, 1)
		read := func() {
			go func() {
				_, err := accepted.Read(make([]byte, 10))
				done <- err
			}()
			synctest.Wait()
		}
		read()
		for range 20 {
			far.sweep()
		}
		dialled.Write([]byte("beg"))
		if err := <-done; err != nil {
			t.Fatalf("waiting for a request: %v", err)
		}
		go io.ReadFull(dialled, make([]byte, 3))
		accepted.Write([]byte("ans")) // that was all of it
		read()
		for range 20 {
			far.sweep()
		}
		dialled.Write([]byte("beg"))
		if err := <-done; err != nil {
			t.Fatalf("waiting for the next request: %v", err)
		}
		read() // the rest does not come
		far.sweep()
		far.sweep()
		if err := <-done; err == nil {
			t.Error("half a request: got no error")
		}
	})
}

// What is not used goes after a while, unless an answer is awaited on it.
func TestIdleConnectionGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, _, near, _ := conduit(t)
		for range idleSweeps {
			near.sweep()
		}
		if closed(dialled) {
			t.Fatal("gone early")
		}
		near.sweep()
		near.sweep()
		if !closed(dialled) || near.dialled("at-b") {
			t.Error("still there")
		}
		waiting, _, near, _ := conduit(t)
		done := make(chan error, 1)
		go func() {
			_, err := waiting.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		for range 5 * idleSweeps {
			near.sweep()
		}
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("one that waits for an answer: %v", err)
		default:
		}
	})
}

// Who is cut off makes no connection and takes none.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := newStreams("at-a", n.open("at-a"))
		other := n.open("at-b")
		s.cut()
		if _, err := s.Dial("at-b", time.Second); !errors.Is(err, errCutOff) {
			t.Errorf("dial: got %v, want cut off", err)
		}
		if _, err := s.Dial("at-a", time.Second); !errors.Is(err, errCutOff) {
			t.Errorf("dial to itself: got %v, want cut off", err)
		}
		conn, err := other.Dial("at-a", time.Second)
		if err == nil {
			if _, err = conn.Read(make([]byte, 1)); err == nil {
				t.Error("a connection was taken")
			}
			conn.Close()
		}
		s.Close()
		s.serving.Wait()
		if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: got %v, want closed", err)
		}
	})
}

// An old connection that is dead costs one more try, not a commit timeout or
// an election.
func TestDeadConnectionIsDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b")
		a := g.peers["a"]
		g.write(a, 50)
		<-time.After(time.Second)
		for range 10 {
			g.net.cut("at-a", "at-b")
			g.net.heal("at-a", "at-b")
			begin := time.Now()
			g.write(a, 50)
			if d := time.Since(begin); d > 20*time.Millisecond {
				t.Fatalf("a write over a dead connection took %v", d)
			}
		}
	})
}

// Heartbeats and entries share a connection, and a founder keeps none to
// itself.
func TestOneConnectionForEachFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		for range 200 {
			g.write(g.peers["a"], 50)
		}
		if n := len(g.peers["a"].streams.wires); n != 2 {
			t.Errorf("wires of the leader: got %d, want 2", n)
		}
		<-time.After(20 * time.Second)
		if n := g.net.alive(); n != 2 {
			t.Errorf("connections: got %d, want 2", n)
		}
		if n := len(g.peers["a"].streams.wires); n != 2 {
			t.Errorf("wires of the leader: got %d, want 2", n)
		}
	})
}

// Entries and heartbeats for a peer wait for each other, but not for long: then
// they take a second connection.
func TestHeartbeatsWaitForEntriesForAWhile(t *testing.T) {
	for name, test := range map[string]struct {
		busy        time.Duration // how long the first is under way
		connections int
	}{"a moment": {50 * time.Millisecond, 1}, "long": {time.Second, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStreams("at-a", nil)
				trans := newTransport(s, hclog.NewNullLogger(), Hazards{})
				defer func() { s.cut(); trans.Close(); s.serving.Wait() }()
				answers := make(chan error, 2)
				ask := func(term uint64) {
					req := &raft.AppendEntriesRequest{Term: term}
					answers <- trans.AppendEntries("r-a", "at-a", req, new(raft.AppendEntriesResponse))
				}
				go ask(1)
				first := <-trans.Consumer()
				go ask(2)
				<-time.After(test.busy)
				synctest.Wait()
				if n := len(s.wires); n != 2*test.connections { // both ends are here
					t.Errorf("connections: got %d, want %d", n/2, test.connections)
				}
				first.Respond(new(raft.AppendEntriesResponse), nil)
				second := <-trans.Consumer()
				second.Respond(new(raft.AppendEntriesResponse), nil)
				for range 2 {
					if err := <-answers; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// raft would handle heartbeats beside its main loop (issue 695).
func TestHeartbeatsGoThroughTheMainLoop(t *testing.T) {
	s := newStreams("at-a", nil)
	trans := newTransport(s, hclog.NewNullLogger(), Hazards{})
	defer func() { s.cut(); trans.Close(); s.serving.Wait() }()
	trans.SetHeartbeatHandler(func(raft.RPC) { t.Error("a heartbeat was handled beside the main loop") })
	answer := make(chan error, 1)
	go func() {
		req := &raft.AppendEntriesRequest{Term: 3, RPCHeader: raft.RPCHeader{Addr: []byte("at-b")}}
		answer <- trans.AppendEntries("r-a", "at-a", req, new(raft.AppendEntriesResponse))
	}()
	rpc := <-trans.Consumer()
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); !ok || req.Term != 3 {
		t.Errorf("main loop: got %+v, want the heartbeat", rpc.Command)
	}
	rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// One that rejects everything must not be sent the state without a pause.
func TestSnapshotsForOnePeerKeepADistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreams("at-a", nil)
		trans := newTransport(s, hclog.NewNullLogger(), Hazards{})
		defer func() { s.cut(); trans.Close(); s.serving.Wait() }()
		begin := time.Now()
		for range 5 {
			trans.InstallSnapshot("r-b", "at-b", &raft.InstallSnapshotRequest{}, new(raft.InstallSnapshotResponse), strings.NewReader(""))
		}
		if d := time.Since(begin); d < 4*restAfter || d > 5*restAfter {
			t.Errorf("five snapshots in %v, want %v between them", d, restAfter)
		}
	})
}

// A peer that is gone is reported, not several times a second.
func TestRaftRepeatsItselfOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	logger, sink := raftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), "shard 3")
	lines := func() int { return strings.Count(out.String(), "\n") }
	for range 100 {
		logger.Error("failed to heartbeat to", "peer", "at-b")
		logger.Warn("heartbeat timeout reached, starting election")
		logger.Warn("failed to get previous log") // routine
		logger.Info("entering follower state")
	}
	if lines() != 2 || !strings.Contains(out.String(), "shard 3") || !strings.Contains(out.String(), "level=ERROR") {
		t.Errorf("got %s, want each once, with the group", out.String())
	}
	for range quietTicks {
		sink.tick()
	}
	logger.Error("failed to heartbeat to", "peer", "at-b")
	if lines() != 3 {
		t.Errorf("a minute later: got %d lines, want 3", lines())
	}
	sink.hush()
	logger.Error("transport shutdown")
	if lines() != 3 {
		t.Error("it speaks of its own end")
	}
}

// No-ops and barriers never reach a machine: an idle follower counts as caught
// up all the same, and one whose machine has something left does not.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a, b := g.peers["a"], g.peers["b"]
		caughtUp := func() bool {
			at := a.Progress()
			return b.Progress().CaughtUp(at, 0)
		}
		for range 5 {
			g.write(a, 50)
			a.Nudge()
			a.Nudge()
			g.await("b has caught up", caughtUp)
			if at := a.Progress(); at.Applied != at.Commit || at.Last < at.Commit || at.Term != a.Term() {
				t.Errorf("progress of an idle leader: %+v", at)
			}
		}
		gate := make(chan struct{})
		b.ledger.gate.Store(&gate)
		before := b.Progress().Applied
		index := g.write(a, 50)
		a.Nudge()
		a.Nudge()
		<-time.After(5 * time.Second)
		if p := b.Progress(); p.Applied >= index || p.Applied < before || p.Commit < index {
			t.Errorf("its machine still works: got %+v, want applied below %d", p, index)
		}
		if caughtUp() {
			t.Error("caught up before its machine is")
		}
		close(gate)
		g.await("b has caught up", caughtUp)
		if old := (Progress{Term: 1, Applied: 100}); old.CaughtUp(Progress{Term: 2, Commit: 50}, 0) {
			t.Error("one that follows an older leader has caught up")
		}
		if p := (Progress{Term: 2, Applied: 90}); !p.CaughtUp(Progress{Term: 2, Commit: 100}, 10) || p.CaughtUp(Progress{Term: 2, Commit: 101}, 10) {
			t.Error("lag")
		}
	})
}

// A nudge tells followers of the last commit now, and does not wait.
func TestNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		<-time.After(3 * time.Second)
		begin := time.Now()
		g.write(g.peers["a"], 50)
		g.peers["a"].Nudge()
		synctest.Wait()
		if lost := g.lost(g.peers["b"]); len(lost) > 0 || time.Since(begin) > 0 {
			t.Errorf("after %v a follower lacks %v", time.Since(begin), lost)
		}
		last := g.peers["b"].Progress().Last
		g.peers["b"].Nudge() // not the leader: nothing
		synctest.Wait()
		if now := g.peers["a"].Progress().Last; now != last {
			t.Error("a follower's nudge made an entry")
		}
		// Alone there is nobody to tell.
		h := newGroup(t, nil, "x")
		before := h.peers["x"].Progress().Last
		h.peers["x"].Nudge()
		synctest.Wait()
		if now := h.peers["x"].Progress().Last; now != before {
			t.Errorf("a nudge of one: last entry %d, was %d", now, before)
		}
	})
}
