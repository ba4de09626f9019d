package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// Clock tells the time. In this room nothing else does.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// SnapshotInfo says what a snapshot is of.
type SnapshotInfo = replica.SnapshotInfo

// Config is what a cluster is made from. A field without a default must be
// given.
type Config struct {
	Node       string             // this node's name
	ClusterID  directory.ID       // random, not zero
	Shards     int                // data shards, 1 to 64; default 16; fixed for the cluster's life
	Generation uint32             // of all groups; default 1
	Settings   directory.Settings // default: one voter, recovery mode none, lease 3 s

	// Network is this node's place among others; nil: a cluster of this
	// process alone. Then, and for a founder, Shards, Generation and Settings
	// count; a joiner takes them from the directory, Generation apart.
	Network *Network

	// Disk is where the directory's log is kept; nil: in memory. It needs
	// Network.
	Disk *Disk
	// SealDirectory and OpenDirectory append to dst, as SealBatch and OpenBatch
	// do for shards; default: the directory's commands are not sealed.
	SealDirectory func(dst []byte, group, generation uint32, command []byte) ([]byte, error)
	OpenDirectory func(dst []byte, group, generation uint32, sealed []byte) ([]byte, error)

	Clock Clock
	// Uptime is the time since this machine was started. It is never set and
	// goes on while the machine sleeps (CLOCK_BOOTTIME), and two nodes' must
	// differ by less than 10 % in how fast they go: read leases are measured by
	// it. Needed with Network.
	Uptime func() time.Duration
	Rand   io.Reader    // for replica identities
	Logger *slog.Logger // default: none

	// Machine makes the state of a shard; see [StateMachine].
	Machine func(cloakroom.ShardID) (Machine, error)
	// SealBatch and OpenBatch append to dst; group is the shard's number.
	SealBatch func(dst []byte, group, generation uint32, batch []byte) ([]byte, error)
	OpenBatch func(dst []byte, group, generation uint32, sealed []byte) ([]byte, error)

	// SealSnapshot and OpenSnapshot stand between a replica's state and another
	// replica of the group that takes it over; default: nothing does.
	SealSnapshot func(w io.Writer, at SnapshotInfo) (io.WriteCloser, error)
	OpenSnapshot func(r io.Reader, at SnapshotInfo) (io.Reader, error)
	// SnapshotSize returns the length of what SealSnapshot writes from the
	// length of what it is given; default: it is sealed twice and counted.
	SnapshotSize func(payload int64) int64

	// Changes returns the changes of a shard behind an entry, whole entries and
	// about limit at most, up to which entry they reach, whether changes before
	// that are missing (then it returns none), and whether there are more. nil:
	// other nodes are told of none.
	Changes func(shard cloakroom.ShardID, after uint64, limit int) (changes []LoggedChange, reach uint64, gap, more bool)

	// Refounded is told of each shard that this node, leading the directory,
	// had begin anew because all its voters were gone. nil: nobody is.
	Refounded func(shard cloakroom.ShardID, generation uint32)

	// MapLog and UnmapLog hand out off-heap memory for logs.
	MapLog   func(n int) ([]byte, error)
	UnmapLog func(mem []byte)
	// LogBudget and DirectoryLogBudget bound the log of one group in memory,
	// in bytes; defaults 64 MiB and a sixteenth of LogBudget, at least 1 MiB.
	LogBudget, DirectoryLogBudget int

	// RecordMemory returns the free and all bytes of record memory; it is
	// called for every Propose. Deposits leave a tenth free. Default, or a
	// limit of 0: no bound.
	RecordMemory func() (free, limit int64)
	// QueueBytes bounds the commands that wait for one shard; default 8 MiB.
	QueueBytes int

	// Installs bounds the replicas of shards that one node makes at a time, each
	// of which takes the whole state of its shard; default 2.
	Installs int

	hazards hazards // for simulations: remedies left out
}

const (
	defaultShards    = 16
	defaultLogBudget = 64 << 20
	defaultQueue     = 8 << 20
	defaultInstalls  = 2
	minDirectoryLog  = 1 << 20
)

// check fills defaults and reports every fault.
func (c *Config) check() error {
	c.fill()
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("cluster: "+text))
		}
	}
	fault(c.Node == "", "Node is missing")
	fault(c.ClusterID == directory.ID{}, "ClusterID is missing")
	fault(c.Shards < 1 || c.Shards > cloakroom.MaxShards, fmt.Sprintf("Shards must be 1 to %d", cloakroom.MaxShards))
	fault(c.Clock == nil, "Clock is missing")
	fault(c.Network != nil && c.Uptime == nil, "Uptime is missing")
	fault(c.Disk != nil && c.Network == nil, "Disk needs Network")
	fault((c.SealDirectory == nil) != (c.OpenDirectory == nil), "SealDirectory and OpenDirectory go together")
	fault(c.Rand == nil, "Rand is missing")
	fault(c.Machine == nil, "Machine is missing")
	fault(c.SealBatch == nil || c.OpenBatch == nil, "SealBatch and OpenBatch are needed")
	fault(c.MapLog == nil || c.UnmapLog == nil, "MapLog and UnmapLog are needed")
	fault(c.Installs < 0, "Installs is negative")
	fault(c.LogBudget < minDirectoryLog, fmt.Sprintf("LogBudget is under %d bytes", minDirectoryLog))
	fault(c.QueueBytes < cloakroom.MaxEntryBytes, fmt.Sprintf("QueueBytes is under %d", cloakroom.MaxEntryBytes))
	if c.Network != nil {
		faults = append(faults, c.Network.check()...)
	}
	if c.Disk != nil {
		faults = append(faults, c.Disk.check()...)
	}
	return errors.Join(faults...)
}

// fill puts the defaults in.
func (c *Config) fill() {
	if c.Shards == 0 {
		c.Shards = defaultShards
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.Settings == (directory.Settings{}) {
		c.Settings = directory.Settings{Replication: 1, RecoveryMode: "none", LeaseMillis: 3000}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogBudget == 0 {
		c.LogBudget = defaultLogBudget
	}
	if c.DirectoryLogBudget == 0 {
		c.DirectoryLogBudget = max(c.LogBudget/16, minDirectoryLog)
	}
	if c.Installs == 0 {
		c.Installs = defaultInstalls
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueue
	}
	if c.RecordMemory == nil {
		c.RecordMemory = func() (free, limit int64) { return 0, 0 }
	}
}
