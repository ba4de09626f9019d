package replica

// Status is what an operator sees of a replica.
type Status struct {
	Group       string
	Identity    Identity
	Generation  uint32
	Leading     bool
	Term        uint64
	LastIndex   uint64 // newest entry in the log
	Applied     uint64 // newest command applied
	LogBytes    int    // live entries
	LogMapped   int    // memory of the log, spares included
	LogBudget   int
	Compactions uint64
	Parked      string // why, "" if it is in service
}

// Status returns where the replica stands.
func (r *Replica) Status() Status {
	used, mapped := r.log.size()
	s := Status{
		Group: r.cfg.Group, Identity: r.cfg.Identity, Generation: r.cfg.Generation,
		Leading: r.Leads(), Term: r.raft.CurrentTerm(), LastIndex: r.raft.LastIndex(),
		Applied: r.fsm.commandIndex(), LogBytes: used, LogMapped: mapped,
		LogBudget: r.cfg.LogBudget, Compactions: r.compactions.Load(),
	}
	if reason := r.parked.Load(); reason != nil {
		s.Parked = (*reason).Error()
	}
	return s
}
