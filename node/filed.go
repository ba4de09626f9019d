package node

import (
	"fmt"

	"cloakroom/node/audit"
)

// RecordIn sets the file of the audit log, which it opens, and what becomes of
// a request that cannot be recorded, by its name in a configuration file. The
// file belongs to the node that is opened with cfg.
func (cfg *Config) RecordIn(path, onFailure string) (err error) {
	if cfg.Audit.OnFailure, err = audit.ParseOnFailure(onFailure); err != nil {
		return err
	}
	if cfg.Audit.File, err = audit.OpenFile(path); err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	return nil
}

// LimitCallers sets how many connections, requests and streams, of all callers
// and of one, the front door serves at once. 0 is the default.
func (cfg *Config) LimitCallers(connections, requests, streams, each int) {
	cfg.Limits.Connections, cfg.Limits.Requests = connections, requests
	cfg.Limits.Streams, cfg.Limits.StreamsEach = streams, each
}
