package replica

import (
	"context"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// silence is how long a follower hears nothing before it stands for
	// election, and how long a leader without answers from a quorum leads on.
	// A dead leader is replaced when both others have noticed: with 450 ms in
	// 0.93 s at the median and 1.8 s in the worst of 400, with 500 ms in 1.05 s
	// and 2 s.
	silence = 450 * time.Millisecond
	// leaderPace is the same setting of a leader, where it means a heartbeat
	// every tenth to fifth of it.
	leaderPace = time.Second
)

// settings are raft's, each as measured (design/traps.md).
func settings(id string, logger hclog.Logger) *raft.Config {
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            raft.ServerID(id),
		HeartbeatTimeout:   silence,
		ElectionTimeout:    silence,
		LeaderLeaseTimeout: silence,
		// How late followers of an idle group learn of a commit without a
		// Nudge, and how soon a failed replication is tried again.
		CommitTimeout: 500 * time.Millisecond,
		// An entry is a batch already, so few are enough: at most 8 MiB have to
		// pass within answerTimeout. raft allocates a slice of this length for
		// every commit.
		MaxAppendEntries: 32,
		// One entry is in flight at a time, and a buffered channel could keep
		// an entry that nobody answers.
		BatchApplyCh:     false,
		ShutdownOnRemove: false,
		// Snapshots follow the bytes of the log (keep), never raft's count of
		// entries or its clock. TrailingLogs is set before each.
		SnapshotThreshold: math.MaxUint64,
		SnapshotInterval:  24 * time.Hour,
		TrailingLogs:      0,
		NoLegacyTelemetry: true,
		Logger:            logger,
	}
}

// raftLogger passes raft's warnings and errors on to slog.
func raftLogger(to *slog.Logger, group string) (hclog.Logger, *logSink) {
	from := hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, Output: io.Discard})
	sink := &logSink{to: to.With("group", group), heard: make(map[string]bool)}
	from.RegisterSink(sink)
	return from, sink
}

// logSink takes hclog's records. raft reports a peer that is gone several times
// a second for every group, so each message is passed on once a minute at
// most.
type logSink struct {
	to *slog.Logger

	mu    sync.Mutex
	ticks int
	heard map[string]bool // passed on within the minute
	over  bool            // the replica closes its connections itself
}

// quietTicks is how many ticks of a second a message is held back.
const quietTicks = 60

// routine are messages that belong to a healthy life: a replica that catches
// up, a peer that closes a connection.
var routine = map[string]bool{
	"failed to get previous log":                 true,
	"appendEntries rejected, sending older logs": true,
	"failed to get log":                          true, // a leader's: compacted, so it sends a snapshot
	"skipping application of old log":            true,
	"no known peers, aborting election":          true,
	"failed to decode incoming command":          true,
	"failed to flush response":                   true,
}

// tick is called once a second.
func (s *logSink) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticks++; s.ticks%quietTicks == 0 {
		clear(s.heard)
	}
}

// hush ends it: what comes now is of our own making.
func (s *logSink) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// Accept implements hclog.SinkAdapter.
func (s *logSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	at := slog.LevelWarn
	switch {
	case level < hclog.Warn:
		return
	case routine[msg]:
		at = slog.LevelDebug
	case level >= hclog.Error:
		at = slog.LevelError
	}
	if s.pass(msg) {
		s.to.Log(context.Background(), at, "raft: "+msg, args...)
	}
}

// pass reports whether msg is heard for the first time in a while.
func (s *logSink) pass(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.heard[msg] {
		return false
	}
	s.heard[msg] = true
	return true
}
