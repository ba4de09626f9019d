package replica

import (
	"context"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// settings are raft's, each as measured (design/traps.md).
func settings(id string, logger hclog.Logger) *raft.Config {
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            raft.ServerID(id),
		HeartbeatTimeout:   500 * time.Millisecond,
		ElectionTimeout:    500 * time.Millisecond,
		LeaderLeaseTimeout: 500 * time.Millisecond,
		CommitTimeout:      250 * time.Millisecond,
		// An entry is a batch already, so few are enough; raft allocates a
		// slice of this length for every commit.
		MaxAppendEntries: 64,
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
func raftLogger(to *slog.Logger, group string) hclog.Logger {
	from := hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, Output: io.Discard})
	from.RegisterSink(&logSink{to: to.With("group", group)})
	return from
}

// logSink takes hclog's records.
type logSink struct{ to *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s *logSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	switch {
	case level >= hclog.Error:
		s.to.Log(context.Background(), slog.LevelError, "raft: "+msg, args...)
	case level == hclog.Warn:
		s.to.Log(context.Background(), slog.LevelWarn, "raft: "+msg, args...)
	}
}
