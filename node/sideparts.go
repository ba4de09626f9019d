package node

import "cloakroom/node/operator"

// parts adds what this node can do for its operators.
func (d sideDoor) parts(cfg *operator.Config) {
	cfg.Keys, cfg.Entry, cfg.Members = d, d, d
	cfg.Rights, cfg.Roll, cfg.Domains = rights(d), rights(d), rights(d)
}
