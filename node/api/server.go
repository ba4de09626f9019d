package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom/securemem"
)

// Server is a front door on one listener.
type Server struct {
	service Service
	pool    *securemem.Pool
	limits  Limits
	tls     *tls.Config
	sizes   recordSizes // of crypto/tls's buffers
	log     *slog.Logger
	observe func(call string, status int, took time.Duration)
	fixed   func(method, path string) []byte

	streams streams
	ending  context.Context // over when streams have to end
	end     context.CancelFunc

	listener  net.Listener
	http      *http.Server
	exchanges sync.Pool // of *exchange, which hold no plaintext

	closing  atomic.Bool
	leaving  atomic.Bool // every answer is the last of its connection
	inFlight atomic.Int64
	most     atomic.Int64 // requests at once
	requests atomic.Uint64
	shed     atomic.Uint64
	refused  atomic.Uint64

	mu     sync.Mutex
	conns  map[*conn]struct{} // open
	places int                // for connections
}

// Stats are the front door's counters.
type Stats struct {
	Connections int    // open
	InFlight    int    // requests being served
	Requests    uint64 // begun
	Shed        uint64 // requests refused because too many were being served
	Refused     uint64 // connections refused because too many were open
	Streams     int    // of events, being served
	Dropped     uint64 // streams ended because the caller did not read
}

// New builds a front door; [Server.Serve] opens it.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.clone()
	if err != nil {
		return nil, fmt.Errorf("build front door: %w", err)
	}
	s := &Server{
		service:  cfg.Service,
		pool:     cfg.Pool,
		limits:   cfg.Limits,
		tls:      cfg.TLS,
		sizes:    findRecordSizes(),
		log:      cfg.Logger,
		observe:  cfg.Observe,
		fixed:    cfg.Fixed,
		listener: cfg.Listener,
		conns:    make(map[*conn]struct{}),
	}
	s.streams.named, s.places = make(map[string]int), cfg.Limits.Connections
	s.streams.limit, s.streams.each = cfg.Limits.Streams, cfg.Limits.StreamsEach
	s.most.Store(int64(cfg.Limits.Requests))
	s.ending, s.end = context.WithCancel(context.Background())
	s.exchanges.New = func() any { return newExchange(s) }
	s.http = s.newHTTP()
	return s, nil
}

func (s *Server) newHTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      s,
		DisableGeneralOptionsHandler: true,
		Protocols:                    protocols,
		TLSNextProto:                 map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ReadHeaderTimeout:            s.limits.Header,
		IdleTimeout:                  s.limits.Idle,
		MaxHeaderBytes:               8 << 10,
		ConnState:                    s.onState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, baseConn(c))
		},
		ErrorLog: log.New(silentLog{s.log}, "", 0),
	}
}

// Serve answers requests until Close. It returns nil after Close, and
// otherwise why the listener failed.
func (s *Server) Serve() error {
	err := s.http.Serve(doorway{s.listener, s})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// Close stops accepting, ends the streams, lets the requests under way end, and
// closes what is left when ctx ends; it then returns ctx's error.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Store(true)
	s.end()
	s.closeFresh()
	err := s.http.Shutdown(ctx)
	s.listener.Close() //nolint:errcheck // closed by Shutdown unless Serve never ran
	if err != nil && ctx.Err() != nil {
		s.http.Close() //nolint:errcheck // the listener is closed; connections are on their own
		return fmt.Errorf("close front door: %w", ctx.Err())
	}
	return nil
}

// Limit changes how many connections, requests and streams are served at once.
// What is over a new limit goes on to its end. The other limits stay as they
// are. It returns what is wrong with limits, and then changes nothing.
func (s *Server) Limit(limits Limits) error {
	limits.fill()
	if err := limits.check(); err != nil {
		return err
	}
	s.most.Store(int64(limits.Requests))
	s.mu.Lock()
	s.places = limits.Connections
	s.mu.Unlock()
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	s.streams.limit, s.streams.each = limits.Streams, limits.StreamsEach
	return nil
}

// Farewell has every answer from now on be the last one of its connection, so
// that callers go elsewhere between two requests and none of theirs is lost
// when Close comes. New connections are still served.
func (s *Server) Farewell() { s.leaving.Store(true) }

// Cut ends the front door the way a crash does: the listener and every
// connection are closed at once, and nobody gets an answer any more. Handlers
// may still run; [Server.Quiesce] waits for them.
func (s *Server) Cut() {
	s.closing.Store(true)
	s.end()
	s.http.Close()     //nolint:errcheck // connections are on their own
	s.listener.Close() //nolint:errcheck // closed already unless Serve never ran
}

// Quiesce waits until no handler is running, so that memory they use can go.
// It is called after Cut or Close; a request that comes later is refused before
// it touches any. It returns ctx's error when that ends first.
func (s *Server) Quiesce(ctx context.Context) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for s.inFlight.Load() > 0 || s.streams.open.Load() > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for requests under way: %w", ctx.Err())
		}
	}
	return nil
}

// closeFresh closes connections that never sent a byte; Shutdown would wait
// five seconds for them.
func (s *Server) closeFresh() {
	s.mu.Lock()
	var fresh []*conn
	for c := range s.conns {
		if c.fresh.Load() {
			fresh = append(fresh, c)
		}
	}
	s.mu.Unlock()
	for _, c := range fresh {
		c.Close() //nolint:errcheck // nothing was said on it
	}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	return Stats{
		Connections: open,
		InFlight:    int(s.inFlight.Load()),
		Requests:    s.requests.Load(),
		Shed:        s.shed.Load(),
		Refused:     s.refused.Load(),
		Streams:     int(s.streams.open.Load()),
		Dropped:     s.streams.dropped.Load(),
	}
}

// connKey finds the connection in a request's context.
type connKey struct{}

func baseConn(c net.Conn) *conn {
	if secure, ok := c.(secureConn); ok {
		return secure.conn
	}
	return c.(*conn)
}

// onState wipes what net/http has read from a connection that it is about to
// close because the server closes: it does so without a further Read.
func (s *Server) onState(c net.Conn, state http.ConnState) {
	if s.closing.Load() && (state == http.StateActive || state == http.StateIdle) {
		baseConn(c).retire()
	}
}

// doorway wraps accepted connections and refuses those over the limit.
type doorway struct {
	net.Listener
	server *Server
}

func (d doorway) Accept() (net.Conn, error) {
	for {
		raw, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := d.server.admit(raw); c != nil {
			return c, nil
		}
	}
}

// admit wraps an accepted connection, or answers that there are too many and
// returns nil.
func (s *Server) admit(raw net.Conn) net.Conn {
	c := &conn{server: s}
	c.fresh.Store(true)
	s.mu.Lock()
	full := len(s.conns) >= s.places
	if !full {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		s.refused.Add(1)
		s.turnAway(raw)
		return nil
	}
	c.socket = newSocket(raw)
	if s.tls == nil {
		c.socket.ahead.attach(raw)
		c.Conn = c.socket
		return c
	}
	c.below = &records{Conn: c.socket} // reads ahead by itself
	secure := tls.Server(c.below, s.tls)
	c.Conn = secure
	return secureConn{c, secure}
}

// crowded is the answer to a connection too many. A fresh connection has room
// for it in its send buffer, so writing it does not wait.
const crowded = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

func (s *Server) turnAway(raw net.Conn) {
	if s.tls == nil {
		raw.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) //nolint:errcheck // closed next
		raw.Write([]byte(crowded))                                  //nolint:errcheck // closed next
	}
	raw.Close() //nolint:errcheck // nothing was promised
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// silentLog takes what net/http would log. Its texts may quote the client, so
// only the fact is logged.
type silentLog struct{ log *slog.Logger }

func (l silentLog) Write(p []byte) (int, error) {
	l.log.Debug("connection failed")
	return len(p), nil
}
