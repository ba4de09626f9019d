package node

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/securemem"
)

// Config is what a node is made of. The zero value of every field but Schema
// and Principals has a default.
type Config struct {
	// Name is this node's in the directory; default "n1".
	Name string
	// Network is where this node meets the others of its cluster. nil: it is
	// alone for good.
	Network *Network
	// Folder is where the node keeps its directory log, its keyring and who it
	// is. Empty: nothing is on disk, and the node founds a cluster or joins that
	// of the nodes Beside it, with Schema, Principals and Domains; with a folder
	// those stand in the directory.
	Folder string
	FS     disk.FS // of the folder; default: the machine's
	// JoinToken has a node without a cluster taken into one.
	JoinToken []byte
	// CertificateLife is how long a certificate signed here is good for; default
	// 90 days. It is replaced when two thirds of it are over.
	CertificateLife time.Duration
	// RecoveryMode is held to that of the cluster; "" says nothing.
	RecoveryMode string

	// Beside lists live nodes of this process whose cluster this one joins. It
	// takes the keys over from the first that still has them. Empty: this node
	// founds a cluster.
	Beside []*Node

	Memory securemem.Config
	Audit  audit.Config
	// AuditFile is where the audit log is written, unless Audit.File says.
	AuditFile string
	Limits    api.Limits
	TLS       *tls.Config // of the data listener; nil: no TLS
	OwnTLS    bool        // the data listener presents the node's certificate of the cluster
	// Shards and Replication are fixed when a cluster is founded. With a folder,
	// 0 says nothing; another value than the cluster's is refused.
	Shards      int // data shards, 1 to 64, default 16
	Replication int // voters of a group, 1 or 3
	LogBudget   int // bytes of log kept in memory for each group, default 64 MiB
	Installs    int // replicas that one node takes over at once, default 2
	// DeadAfter and HandoverWindow are the cluster's; 0 says nothing, another
	// value than its own is refused.
	DeadAfter, HandoverWindow time.Duration

	Schema     []directory.Field
	Principals []Principal
	Domains    []string // beside "default", numbered from 1 in this order
	// Approvals has rights that lead to values approved by a second principal, as
	// in a cluster that several people founded. Without a folder only.
	Approvals bool

	// KeepDumpable leaves out the hardening of the process as a whole
	// (RLIMIT_CORE, PR_SET_DUMPABLE): for tests, where the process is shared.
	KeepDumpable bool
	// Fixed is for the bench only: see api.Config.
	Fixed func(method, path string) []byte

	Logger *slog.Logger         // default discards
	Now    func() time.Time     // default time.Now
	Uptime func() time.Duration // since the machine was started, sleep included; default asks the kernel
	Random io.Reader            // default crypto/rand
}

// Principal is somebody who may call, with the token as it was given out.
type Principal struct {
	Name  string
	Token []byte
	Grant directory.Grant
}

// String hides the token.
func (p Principal) String() string { return "principal " + p.Name }

// GoString hides the token.
func (p Principal) GoString() string { return p.String() }

// fill returns cfg with its defaults, or all its faults.
func (cfg Config) fill() (Config, error) {
	if cfg.Name == "" {
		cfg.Name = "n1"
	}
	if cfg.Shards == 0 && cfg.Folder == "" {
		cfg.Shards = 16
	}
	if cfg.FS == nil {
		cfg.FS = disk.OS()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Uptime == nil {
		cfg.Uptime = newUptime()
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Memory.Logger == nil {
		cfg.Memory.Logger = cfg.Logger
	}
	if cfg.Audit.Logger == nil {
		cfg.Audit.Logger = cfg.Logger
	}
	if cfg.Audit.Now == nil {
		cfg.Audit.Now = cfg.Now
	}
	var faults []error
	if cfg.Folder != "" && cfg.Network == nil {
		faults = append(faults, errors.New("a node with a folder has a cluster port: Network is missing"))
	}
	if cfg.Folder != "" && len(cfg.Beside) > 0 {
		faults = append(faults, errors.New("a node with a folder joins by its token, not beside others"))
	}
	if (cfg.Shards < 1 || cfg.Shards > 64) && (cfg.Shards != 0 || cfg.Folder == "") {
		faults = append(faults, fmt.Errorf("cluster.shards is %d: want 1 to 64", cfg.Shards))
	}
	if len(cfg.Name) > cloakroom.MaxNameBytes {
		faults = append(faults, fmt.Errorf("node.name has %d bytes: want at most %d", len(cfg.Name), cloakroom.MaxNameBytes))
	}
	if len(cfg.Schema) == 0 && cfg.Folder == "" {
		faults = append(faults, errors.New("the schema declares no field"))
	}
	for i, name := range cfg.Domains {
		if !directory.ValidName(name) {
			faults = append(faults, fmt.Errorf("domain %q: the name must be lower-case letters, digits, '_', '-' and '.', a letter first", name))
		}
		if name == "default" || slices.Contains(cfg.Domains[:i], name) {
			faults = append(faults, fmt.Errorf("domain %q is there already", name))
		}
	}
	for _, p := range cfg.Principals {
		if len(p.Token) == 0 || len(p.Token) > maxTokenBytes {
			faults = append(faults, fmt.Errorf("principal %s: want a token of 1 to %d bytes", p.Name, maxTokenBytes))
		}
	}
	return cfg, errors.Join(faults...)
}
