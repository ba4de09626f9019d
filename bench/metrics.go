package bench

import (
	"bufio"
	"context"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// requestSeconds is the server's own histogram of the time requests took.
const requestSeconds = "cloakroom_request_seconds"

// buckets is a Prometheus histogram: upper bound in seconds → cumulative
// count, over all label sets.
type buckets map[float64]float64

// serverLatency reads the server's own histogram; nil when it has none.
func (r *run) serverLatency(ctx context.Context, c *contender) buckets {
	if _, ours := c.protocol.(*cloakroomProtocol); !ours {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scheme := "http"
	if c.tls != nil {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.address()+"/metrics", nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	return parseBuckets(resp.Body, requestSeconds)
}

// parseBuckets reads one histogram from the text format of Prometheus.
func parseBuckets(in io.Reader, name string) buckets {
	found := buckets{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		rest, is := strings.CutPrefix(lines.Text(), name+"_bucket{")
		if !is {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		_, bound, is := strings.Cut(labels, `le="`)
		if !is {
			continue
		}
		bound, _, _ = strings.Cut(bound, `"`)
		le, err1 := strconv.ParseFloat(bound, 64)
		count, err2 := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err1 == nil && err2 == nil {
			found[le] += count
		}
	}
	return found
}

// quantileSince returns the quantile of what came after before, in µs, linear
// within its bucket as histogram_quantile does it; 0 when nothing is known.
func (b buckets) quantileSince(before buckets, q float64) float64 {
	bounds := slices.Sorted(maps.Keys(b))
	if len(bounds) == 0 {
		return 0
	}
	last := bounds[len(bounds)-1]
	rank := q * (b[last] - before[last])
	if rank <= 0 {
		return 0
	}
	low, below := 0.0, 0.0
	for _, le := range bounds {
		count := b[le] - before[le]
		if count >= rank {
			if math.IsInf(le, 1) {
				return low * 1e6
			}
			return (low + (le-low)*(rank-below)/(count-below)) * 1e6
		}
		low, below = le, count
	}
	return low * 1e6
}
