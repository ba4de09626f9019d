package cluster

import "cloakroom/cluster/replica"

// GroupStatus is where one replica of a group stands.
type GroupStatus = replica.Status

// Status is what an operator sees of the groups of this process.
type Status struct {
	Ready     bool // every group leads and none is parked
	Directory replica.Status
	Shards    []ShardStatus // none before Start has returned
}

// ShardStatus is one shard's.
type ShardStatus struct {
	replica.Status
	QueueBytes int // commands that wait
	Subjects   int // living
	Erased     int // marks of erased subjects
	Records    int // subject records, marks and field records
}

// Status returns where every group stands.
func (c *Cluster) Status() Status {
	s := Status{Directory: c.desk.replica.Status()}
	s.Ready = s.Directory.Leading
	shards := c.ready.Load()
	if shards == nil {
		s.Ready = false
		return s
	}
	for _, shard := range *shards {
		status := ShardStatus{Status: shard.replica.Status(), QueueBytes: shard.queue.size()}
		if m, ok := shard.machine.(interface{ Count() (int, int, int) }); ok {
			status.Subjects, status.Erased, status.Records = m.Count()
		}
		s.Ready = s.Ready && status.Leading
		s.Shards = append(s.Shards, status)
	}
	return s
}
