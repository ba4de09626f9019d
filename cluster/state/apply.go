package state

import (
	"fmt"
	"math"

	"cloakroom/cluster/command"
)

// stretch is how many commands are applied in one hold of the lock: reads
// wait about 50 µs for it.
const stretch = 32

// Apply applies one entry of the log, an opened batch, and appends one result
// for each of its items to results; a batch whose frame is broken is answered
// with a single Malformed. What it does depends on the log alone.
//
// index must be above that of the entry before. An error means that this
// replica could not do what the others did, for want of memory or because the
// log goes backwards, and must stop: from then on Apply returns that error.
func (m *Machine) Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.failed != nil {
		return results, m.failed
	}
	if index <= m.applied {
		return results, m.fail(fmt.Errorf("apply entry %d: the log went back from %d", index, m.applied))
	}
	hash := m.digest.next(m.hash, index, batch)
	items, err := command.OpenBatch(batch)
	if err != nil {
		results = append(results, command.Result{Code: command.Malformed})
	}
	for items.Len() > 0 {
		if results, err = m.applyStretch(&items, results); err != nil {
			return results, m.fail(fmt.Errorf("apply entry %d: %w", index, err))
		}
	}
	m.mu.Lock()
	m.applied, m.hash = index, hash
	m.mu.Unlock()
	m.tell(index)
	return results, nil
}

// fail stops the machine for good.
func (m *Machine) fail(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = err
	return err
}

// applyStretch applies the next few items in one hold of the lock.
func (m *Machine) applyStretch(items *command.Batch, results []command.Result) ([]command.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range stretch {
		item, ok := items.Next()
		if !ok {
			break
		}
		c := &m.command
		if command.Decode(item, c) != nil {
			results = append(results, command.Result{Code: command.Malformed})
			continue
		}
		result, err := m.applyCommand(c)
		if err != nil {
			return results, err
		}
		results = append(results, result)
	}
	return results, nil
}

// applyCommand carries one command out.
func (m *Machine) applyCommand(c *command.Command) (command.Result, error) {
	switch c.Kind {
	case command.Time:
		m.time = max(m.time, c.Value)
		return command.Result{Code: command.Done}, nil
	case command.Level:
		if c.Value != 0 {
			return command.Result{Code: command.Unsupported}, nil
		}
		m.schema = max(m.schema, c.SchemaEpoch)
		return command.Result{Code: command.Done}, nil
	case command.Put, command.Merge, command.Erase, command.Expire, command.Bind:
	default:
		return command.Result{Code: command.Unsupported}, nil
	}
	if c.SchemaEpoch < m.schema {
		return command.Result{Code: command.StaleSchema}, nil
	}
	m.schema = c.SchemaEpoch
	b := m.plan.begin(m, c)
	if m.plan.clash {
		return command.Result{Code: command.Malformed}, nil
	}
	d := decide(c, &b, m.seconds())
	if d.refused {
		return result(d.code, &b.subject), nil
	}
	if err := m.plan.carryOut(m, c, &b, &d); err != nil {
		return command.Result{}, err
	}
	m.counts.add(m.plan.counts)
	return result(d.code, &d.after), nil
}

func result(code command.Code, s *command.SubjectRecord) command.Result {
	return command.Result{Code: code, Version: s.Version, Expiry: s.Expiry, Domain: s.Domain}
}

// seconds returns the shard time in unix seconds.
func (m *Machine) seconds() uint32 {
	return uint32(min(m.time/1000, math.MaxUint32))
}
