package client_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/client"
)

// leaderless answers each request after ten seconds, as a node does whose
// shard has no leader.
type leaderless struct{ took time.Duration }

func (l leaderless) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	select {
	case <-time.After(l.took):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"1"}, "Content-Type": {"application/problem+json"}},
		Body: io.NopCloser(strings.NewReader(`{"type":"/problems/unavailable","status":503}`)), Request: req}, nil
}

// A call without a leader ends within its total, with what the server said,
// and is told to be slow once.
func TestACallHasATotal(t *testing.T) {
	for _, test := range []struct {
		took, total, atMost time.Duration
		want                error
		slow                int64
	}{
		{10 * time.Second, 30 * time.Second, 22 * time.Second, cloakroom.ErrUnavailable, 1},
		{10 * time.Second, 5 * time.Second, 5 * time.Second, nil, 1},
		{time.Millisecond, 30 * time.Second, 9 * time.Second, cloakroom.ErrUnavailable, 1}, // waits, four times
		{10 * time.Second, 0, time.Minute, cloakroom.ErrUnavailable, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			var slow atomic.Int64
			c, err := client.New(client.Config{Addr: "127.0.0.1:1", Transport: leaderless{test.took}, Total: test.total,
				Slow: func() { slow.Add(1) }})
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			err = deposit(t.Context(), c)
			if took := time.Since(begin); took > test.atMost {
				t.Errorf("%+v: took %v", test, took)
			}
			var unreachable *client.UnreachableError
			if test.want != nil && !errors.Is(err, test.want) || test.want == nil && !errors.As(err, &unreachable) {
				t.Errorf("%+v: %v", test, err)
			}
			synctest.Wait()
			if slow.Load() != test.slow {
				t.Errorf("%+v: told %d times", test, slow.Load())
			}
		})
	}
}
