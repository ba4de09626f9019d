package bench

import (
	"fmt"
	"math/rand/v2"

	"cloakroom/bench/load"
)

// A plan holds about planIDs ids, in at least minRequests and at most
// maxRequests requests: enough that the processor's caches do not learn them.
const (
	planIDs     = 400_000
	minRequests = 512
	maxRequests = 65_536
)

// zipfExponent is the skew of the Zipf draws: about a fifth of all draws from
// a million go to the first hundred people.
const zipfExponent = 1.01

// draws are the people that the requests of a plan ask for; every contender
// gets the same.
func (r *run) draws(batch int, zipf bool) [][]uint32 {
	rnd := rand.New(rand.NewPCG(r.Seed, uint64(batch)))
	next := func() uint32 { return uint32(rnd.IntN(r.People)) }
	if zipf {
		z := rand.NewZipf(rnd, zipfExponent, 1, uint64(r.People-1))
		next = func() uint32 { return uint32(z.Uint64()) }
	}
	requests := min(max(planIDs/batch, minRequests), maxRequests)
	all := make([][]uint32, requests)
	flat := make([]uint32, 0, requests*batch)
	for i := range all {
		flat = drawDistinct(flat, batch, next)
		all[i] = flat[len(flat)-batch:]
	}
	return all
}

// drawDistinct appends n people that differ: a page asks for each person once.
// After many draws in vain it takes the next person instead of the drawn one.
func drawDistinct(dst []uint32, n int, next func() uint32) []uint32 {
	seen := make(map[uint32]bool, n)
	for tries := 0; len(seen) < n; tries++ {
		one := next()
		if tries > 20*n {
			for seen[one] {
				one++
			}
		}
		if !seen[one] {
			seen[one] = true
			dst = append(dst, one)
		}
	}
	return dst
}

// resolvePlan writes the requests for the draws as the contender wants them.
func resolvePlan(c *contender, draws [][]uint32) *load.Plan {
	plan := &load.Plan{Items: len(draws[0]), Frame: c.frame}
	for _, who := range draws {
		plan.Requests = append(plan.Requests, c.resolve(nil, who))
	}
	plan.Check = func(i int, reply []byte) error {
		if err := c.checkResolve(draws[i], reply); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		return nil
	}
	return plan
}
