package bench

import (
	"context"
	"time"

	"cloakroom/internal/people"
)

// slopeNameBytes is the length of the names in the memory scenario.
const slopeNameBytes = 25

// overwrites is how often the first people are stored again before memory is
// read for the first time: by then the write-ahead log in memory has its full
// size, and its growth is not taken for the subjects'.
const overwrites = 8

// memory measures how resident memory grows with the number of subjects.
func (r *run) memory(ctx context.Context) error {
	crowd, err := people.New(people.Config{Seed: r.Seed, NameBytes: slopeNameBytes})
	if err != nil {
		return err
	}
	all, err := r.startAll(ctx, crowd, options{})
	if err != nil {
		return err
	}
	defer func() { stopAll(all) }()
	for _, c := range all {
		m := Memory{Server: c.name, NameBytes: slopeNameBytes, From: r.MemoryFrom, To: r.People}
		if m.Empty, err = c.server.SettledRSS(ctx, r.Settle); err != nil {
			return err
		}
		// Memory takes its time to stand still, and a server cuts a connection
		// that says nothing for so long: dial anew after each wait.
		if err := c.dial(ctx, r.Connections); err != nil {
			return err
		}
		for range 1 + overwrites {
			if _, err := c.store(ctx, 0, r.MemoryFrom); err != nil {
				return err
			}
		}
		if m.RSSFrom, err = c.server.SettledRSS(ctx, r.Settle); err != nil {
			return err
		}
		if err := c.dial(ctx, r.Connections); err != nil {
			return err
		}
		if _, err := c.store(ctx, r.MemoryFrom, r.People); err != nil {
			return err
		}
		start := time.Now()
		if m.RSSTo, err = c.server.SettledRSS(ctx, r.Settle); err != nil {
			return err
		}
		m.BytesPerSubject = float64(m.RSSTo-m.RSSFrom) / float64(m.To-m.From)
		r.report.Memory = append(r.report.Memory, m)
		r.logf("%-28s %-18s %.1f bytes a subject (%.1f MiB empty, %.1f MiB, %.1f MiB; settled in %v)", "memory", c.name,
			m.BytesPerSubject, mib(m.Empty), mib(m.RSSFrom), mib(m.RSSTo), time.Since(start).Round(time.Second))
		c.stop()
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
