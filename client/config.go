package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says how to reach a cluster. Addr is all that must be set.
type Config struct {
	// Addr is "https://host:port", "http://host:port", "host:port", or
	// "unix:/path" for a socket on this machine. Without a scheme it is https
	// if CACert or Peer is set or the host is not a loopback address. Plain
	// http is refused beyond the loopback interface.
	Addr string
	// Token authenticates every call; the zero Token sends none.
	Token Token
	// CACert is a PEM file with the certificates to trust instead of the
	// system's.
	CACert string
	// Peer, if not nil, decides who the server is by its fingerprint and, if
	// the authority that signed it came along, that of its cluster ("" if not);
	// no name and no other authority is asked then. See [Pin].
	Peer func(node, cluster string) error
	// Timeout bounds one attempt, from the dial to the last byte; 30 s.
	Timeout time.Duration
	// Total bounds one call with all its attempts; 0: the attempts bound it. One
	// that would likely be cut off is not begun: nobody would know what it did.
	Total time.Duration
	// Slow, if not nil, is called once in a call that goes on for a second, on
	// a goroutine of its own.
	Slow func()
	// Retries bounds how often one call is tried again; 4, negative: never.
	Retries int
	// Cache makes Resolve keep answers; nil: it asks every time. The token's
	// grant needs the action "events" beside "resolve".
	Cache *CacheConfig
	// Transport replaces the transport; CACert is ignored then.
	Transport http.RoundTripper
	// Rand makes idempotency keys and jitter; crypto/rand.
	Rand io.Reader
	// Sleep waits between attempts; tests put in their own.
	Sleep func(ctx context.Context, d time.Duration) error
}

// withDefaults returns the configuration filled up, and every fault in it.
func (cfg Config) withDefaults() (Config, *url.URL, error) {
	var faults []error
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Timeout < 0 || cfg.Total < 0 {
		faults = append(faults, errors.New("the timeout is negative"))
	}
	if cfg.Retries == 0 {
		cfg.Retries = 4
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Cache != nil {
		filled, err := cfg.Cache.withDefaults()
		faults = append(faults, err)
		cfg.Cache = &filled
	}
	if cfg.CACert != "" && cfg.Peer != nil {
		faults = append(faults, errors.New("give CACert or Peer, not both"))
	}
	base, socket, err := parseAddr(cfg.Addr, cfg.CACert != "" || cfg.Peer != nil)
	if err != nil {
		faults = append(faults, err)
	}
	if cfg.Transport == nil {
		transport, err := newTransport(&cfg, socket)
		if err != nil {
			faults = append(faults, err)
		}
		cfg.Transport = transport
	}
	return cfg, base, errors.Join(faults...)
}

// parseAddr makes the base URL of an address, and the path of a socket.
func parseAddr(addr string, secure bool) (base *url.URL, socket string, err error) {
	if path, is := strings.CutPrefix(addr, "unix:"); is {
		if !strings.HasPrefix(path, "/") {
			return nil, "", errors.New("the path of the socket has to begin with /")
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, path, nil
	}
	base, err = parseURL(addr, secure)
	return base, "", err
}

func parseURL(addr string, secure bool) (*url.URL, error) {
	if addr == "" {
		return nil, errors.New("no address: want https://host:port or host:port")
	}
	scheme, rest, found := strings.Cut(addr, "://")
	if !found {
		scheme, rest = "https", addr
		if !secure && isLoopback(addr) {
			scheme = "http"
		}
	}
	base, err := url.Parse(scheme + "://" + strings.TrimSuffix(rest, "/"))
	if err != nil || base.Hostname() == "" || base.Path != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("the address is not https://host:port or host:port")
	}
	switch {
	case scheme == "https":
	case scheme != "http":
		return nil, errors.New("the address is neither http:// nor https://")
	case !isLoopback(base.Host):
		return nil, errors.New("plain http beyond the loopback interface would send token and values in clear: use https://")
	}
	return base, nil
}

// isLoopback reports whether host, with or without a port, is this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newTransport returns a transport of its own: HTTP/1.1, which is what the
// data listener speaks, with connections kept for many callers, and without
// compression, which would tell lengths of values apart.
func newTransport(cfg *Config, socket string) (http.RoundTripper, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if cfg.Peer != nil {
		config = PeerTLS(cfg.Peer)
	}
	if cfg.CACert != "" {
		pem, err := os.ReadFile(cfg.CACert)
		if err != nil {
			return nil, fmt.Errorf("read CA certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA certificate: no PEM certificate in %s", cfg.CACert)
		}
	}
	dial := (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	proxy := http.ProxyFromEnvironment
	if socket != "" {
		proxy = nil
		tcp := dial
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return tcp(ctx, "unix", socket) }
	}
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           dial,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        16 << 10,
	}, nil
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
