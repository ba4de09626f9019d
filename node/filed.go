package node

import (
	"fmt"
	"os"
	"path/filepath"

	"cloakroom/node/audit"
)

// RecordIn sets the file of the audit log and what becomes of a request that
// cannot be recorded, by its name in a configuration file.
func (cfg *Config) RecordIn(path, onFailure string) (err error) {
	cfg.AuditFile = path
	cfg.Audit.OnFailure, err = audit.ParseOnFailure(onFailure)
	return err
}

// openAuditFile opens the file of the audit log, if one is named. It comes
// after the folder: a second process on it must not touch the first one's file.
func (n *Node) openAuditFile() (err error) {
	if n.cfg.AuditFile == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(n.cfg.AuditFile), 0o700); err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	if n.cfg.Audit.File, err = audit.OpenFile(n.cfg.AuditFile); err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	return nil
}

// LimitCallers does for a running node what [Config.LimitCallers] does for one
// to come.
func (n *Node) LimitCallers(connections, requests, streams, each int) error {
	if n.server == nil {
		return nil
	}
	var cfg Config
	cfg.LimitCallers(connections, requests, streams, each)
	return n.server.Limit(cfg.Limits)
}

// LimitCallers sets how many connections, requests and streams, of all callers
// and of one, the front door serves at once. 0 is the default.
func (cfg *Config) LimitCallers(connections, requests, streams, each int) {
	cfg.Limits.Connections, cfg.Limits.Requests = connections, requests
	cfg.Limits.Streams, cfg.Limits.StreamsEach = streams, each
}
