package replica

// Status is what an operator sees of a replica.
type Status struct {
	Group       string
	Identity    Identity
	Generation  uint32
	Leading     bool
	Leader      Identity // as far as known here; zero if nobody is
	Term        uint64
	LastIndex   uint64 // newest entry in the log
	Commit      uint64
	Applied     uint64 // all entries up to here have had their effect
	LogBytes    int    // live entries
	LogMapped   int    // memory of the log, spares included
	LogBudget   int
	Compactions uint64
	Parked      string // why, "" if it is in service
}

// Status returns where the replica stands.
func (r *Replica) Status() Status {
	used, mapped := r.log.size()
	progress := r.Progress()
	s := Status{
		Group: r.cfg.Group, Identity: r.cfg.Identity, Generation: r.cfg.Generation,
		Leading: r.Leads(), Term: progress.Term, LastIndex: progress.Last,
		Commit: progress.Commit, Applied: progress.Applied, LogBytes: used, LogMapped: mapped,
		LogBudget: r.cfg.LogBudget, Compactions: r.compactions.Load(),
	}
	s.Leader, _ = r.Leader()
	if reason := r.parked.Load(); reason != nil {
		s.Parked = (*reason).Error()
	}
	return s
}
