package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"cloakroom"
)

// maxReply bounds an answer. The largest legitimate one is 1000 subjects of
// 64 KiB.
const maxReply = 80 << 20

// Client speaks to one address of a cluster. It is safe for concurrent use.
type Client struct {
	cfg   Config
	base  *url.URL
	cache *cache // nil: none
}

// New checks the configuration and returns a client. It does not connect,
// unless there is a cache: that follows the stream of changes until Close.
func New(cfg Config) (*Client, error) {
	cfg, base, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure client: %w", err)
	}
	c := &Client{cfg: cfg, base: base}
	if cfg.Cache != nil {
		if c.cache, err = c.startCache(*cfg.Cache); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close drops the cache and the idle connections.
func (c *Client) Close() {
	if c.cache != nil {
		c.cache.close()
	}
	if t, ok := c.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// call is one request before it is sent, and what may be done when it fails.
type call struct {
	verb   string // for errors: "deposit subject"
	method string
	path   string
	query  string
	body   []byte
	header [][2]string
	repeat bool // sending it twice does the same as once: a 504 may be retried
}

// reply is the answer to a call.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// slowCall is after how long a call is called slow.
const slowCall = time.Second

// do sends the call until it succeeds, fails for good, or the retries are
// used up. The error matches a sentinel of package cloakroom if the server
// answered, and [context.Canceled] and the like if ctx ended.
func (c *Client) do(ctx context.Context, call *call) (*reply, error) {
	if c.cfg.Slow != nil {
		defer time.AfterFunc(slowCall, c.cfg.Slow).Stop()
	}
	begin := time.Now()
	for attempt := 0; ; attempt++ {
		started, limit := time.Now(), c.cfg.Timeout
		if c.cfg.Total > 0 {
			limit = max(min(limit, c.cfg.Total-time.Since(begin)), 1)
		}
		answer, err := c.send(ctx, call, limit)
		if err == nil {
			return answer, nil
		}
		err = fmt.Errorf("%s: %w", call.verb, err)
		wait, ok := c.backoff(err, call.repeat, attempt)
		if !ok || c.cfg.Total > 0 && time.Since(begin)+wait+time.Since(started) > c.cfg.Total {
			return nil, err
		}
		if c.cfg.Sleep(ctx, wait) != nil {
			return nil, err
		}
	}
}

// backoff returns how long to wait before the next attempt, and whether there
// is one. 503 with Retry-After means that nothing was done; 504 may be retried
// where doing it twice is the same as once.
func (c *Client) backoff(err error, repeat bool, attempt int) (time.Duration, bool) {
	var p *Problem
	if attempt >= c.cfg.Retries || !errors.As(err, &p) {
		return 0, false
	}
	step := 50 * time.Millisecond << min(attempt, 5)
	switch {
	case p.Status == http.StatusServiceUnavailable && p.RetryAfter > 0 && p.RetryAfter <= c.cfg.Timeout:
		return p.RetryAfter + c.jitter(step), true
	case p.Status == http.StatusGatewayTimeout && repeat:
		return step + c.jitter(step), true
	}
	return 0, false
}

// jitter returns a random part of d, so that clients that failed together do
// not come back together.
func (c *Client) jitter(d time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(c.cfg.Rand, b[:]); err != nil {
		return d
	}
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(d))
}

// newKey returns a random Idempotency-Key.
func (c *Client) newKey() (string, error) {
	var id cloakroom.Pseudonym
	if _, err := io.ReadFull(c.cfg.Rand, id[:]); err != nil {
		return "", fmt.Errorf("draw idempotency key: %w", err)
	}
	id.SetRandomForm()
	return id.String(), nil
}

// send makes one attempt, which takes limit at most. It goes to the transport directly: http.Client would
// add redirects, which carry values and token to a place nobody named.
func (c *Client) send(ctx context.Context, call *call, limit time.Duration) (*reply, error) {
	var inUse sync.WaitGroup // bodies; each is closed by net/http, whatever happens
	defer inUse.Wait()
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel() // before the wait: it makes net/http let go
	req, err := c.request(attempt, call, &inUse)
	if err != nil {
		return nil, err
	}
	resp, err := c.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, c.transportError(ctx, limit, err)
	}
	defer resp.Body.Close()
	body, err := readReply(resp)
	if err != nil {
		return nil, c.transportError(ctx, limit, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, parseProblem(resp.StatusCode, resp.Header, body, time.Now())
	}
	return &reply{resp.StatusCode, resp.Header, body}, nil
}

func (c *Client) request(ctx context.Context, call *call, inUse *sync.WaitGroup) (*http.Request, error) {
	u := *c.base
	u.Path, u.RawQuery = call.path, call.query
	req, err := http.NewRequestWithContext(ctx, call.method, u.String(), nil)
	if err != nil {
		return nil, errors.New("the request cannot be built")
	}
	if call.body != nil {
		req.Body = newBody(call.body, inUse)
		req.ContentLength = int64(len(call.body))
		req.GetBody = func() (io.ReadCloser, error) { return newBody(call.body, inUse), nil }
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.cfg.Token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token.text)
	}
	for _, h := range call.header {
		if h[1] != "" {
			req.Header.Set(h[0], h[1])
		}
	}
	return req, nil
}

// readReply reads a whole answer, up to maxReply.
func readReply(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > maxReply {
		return nil, errReplyTooLong
	}
	if resp.ContentLength >= 0 {
		body := make([]byte, resp.ContentLength)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(body) > maxReply {
		return nil, errReplyTooLong
	}
	return body, err
}

var (
	errReplyTooLong = errors.New("the answer is too long")
	errReply        = errors.New("the answer is not what the API promises: is this a Cloakroom server?")
)

// UnreachableError means that no answer came. Nothing is known about what
// the server did.
type UnreachableError struct {
	Host string // as configured
	Err  error  // without the URL
}

// Error names the host and the cause.
func (e *UnreachableError) Error() string { return fmt.Sprintf("no answer from %s: %v", e.Host, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// transportError says which host did not answer, and what the usual causes
// mean. A transport's errors do not hold the URL, in which a pseudonym may
// stand.
func (c *Client) transportError(ctx context.Context, limit time.Duration, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var authority x509.UnknownAuthorityError
	var pin *FingerprintError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w after %v", err, limit.Round(time.Millisecond))
	case errors.As(err, &pin):
		return pin
	case errors.As(err, &authority):
		err = fmt.Errorf("%w (name the cluster's CA certificate)", err)
	case errors.As(err, &record):
		err = errors.New("the server does not speak TLS (use http://)")
	}
	host := c.base.Host
	if strings.HasPrefix(c.cfg.Addr, "unix:") {
		host = c.cfg.Addr
	}
	return &UnreachableError{Host: host, Err: err}
}
