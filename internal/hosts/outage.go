//go:build linux

package hosts

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Outage measures how long writes are not taken after something happened: it
// has so many subjects that every shard has some, and writes each at once and
// again until it is acknowledged.
type Outage struct {
	fleet   *Fleet
	token   string
	client  *http.Client
	ids     []string
	version int
}

// outageSubjects leave a shard of sixteen out once in 500 times.
const outageSubjects = 144

// NewOutage makes the subjects.
func (f *Fleet) NewOutage(token string, seed uint64) *Outage {
	rng := rand.New(rand.NewPCG(seed, 2))
	o := &Outage{fleet: f, token: token, client: f.Client()}
	for range outageSubjects {
		o.ids = append(o.ids, newID(rng))
	}
	return o
}

// newID makes a pseudonym up.
func newID(rng *rand.Rand) string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rng.Uint32(), rng.IntN(1<<16), rng.IntN(1<<12), rng.IntN(1<<12), rng.Int64N(1<<48))
}

// Measure calls happen, then writes every subject at the nodes until it is
// acknowledged, and returns how long each took from then on, in order.
func (o *Outage) Measure(nodes []*Node, happen func()) []time.Duration {
	o.version++
	took := make([]time.Duration, len(o.ids))
	happen()
	begun := time.Now()
	var all sync.WaitGroup
	for i, id := range o.ids {
		all.Go(func() { // ends when its subject is written, or after a minute
			for n := i; time.Since(begun) < time.Minute; n++ {
				a := ask(o.client, o.token, nodes[n%len(nodes)], "PUT", "/v1/subjects/"+id, fmt.Sprintf(`{"fields":{"display_name":"o%d"}}`, o.version))
				if a.code/100 == 2 {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			took[i] = time.Since(begun)
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}
