package operator

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
)

// Server is a side door on one listener.
type Server struct {
	cfg   Config
	log   *slog.Logger
	table []route
	http  *http.Server
	ended chan error // what Serve returned

	ctx     context.Context // of all requests; over when Close waits no longer
	cancel  context.CancelFunc
	running sync.WaitGroup // requests
	started atomic.Bool
	closing sync.Once
}

// headerTime is from the first byte to the end of a header, TLS included.
const headerTime = 5 * time.Second

// New builds a door; [Server.Start] opens it.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.fill()
	if err != nil {
		return nil, fmt.Errorf("build operator listener: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, ended: make(chan error, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.table = s.routes()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // the buffers of HTTP/2 can't be wiped
	s.http = &http.Server{
		Handler: s, Protocols: protocols, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: headerTime, ReadTimeout: cfg.Limits.Request, WriteTimeout: cfg.Limits.Request + headerTime,
		IdleTimeout: cfg.Limits.Idle, MaxHeaderBytes: 8 << 10,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.New(silent{s.log}, "", 0),
		BaseContext:  func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s, nil
}

// Start answers requests until Close.
func (s *Server) Start() {
	s.started.Store(true)
	go func() { s.ended <- s.http.Serve(newDoorway(s.cfg)) }() // Close ends it and waits
}

// Close stops accepting and lets the requests under way end; when ctx ends they
// are told to. None is running any more when it returns. A second call does
// nothing.
func (s *Server) Close(ctx context.Context) (err error) {
	s.closing.Do(func() {
		err = s.http.Shutdown(ctx)
		if err != nil {
			s.http.Close() //nolint:errcheck // connections are on their own
		}
		s.cancel()
		s.running.Wait()
		s.cfg.Listener.Close() //nolint:errcheck // closed already unless Start never ran
		if !s.started.Load() {
			return
		}
		if served := <-s.ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	})
	return err
}

// silent takes what net/http would log. Its texts may quote the caller, so
// only the fact is logged.
type silent struct{ log *slog.Logger }

func (l silent) Write(p []byte) (int, error) {
	l.log.Debug("operator connection failed")
	return len(p), nil
}
