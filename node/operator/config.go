package operator

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"
)

// Config says what a door is made of. Gate, Health, Listener and Lend must be
// given; the routes of a part that is nil are not there.
type Config struct {
	Gate    Gate
	Health  Health
	Keys    Keys
	Members Members
	Entry   Entry
	Rights  Rights
	Roll    Roll
	Domains Domains

	Listener net.Listener // owned by the server from New on
	TLS      *tls.Config  // nil: a unix socket
	// Open needs no token for metrics: on a unix socket, whose file mode says
	// who may come.
	Open bool
	// Lend returns memory that is wiped and taken back by release: for shares.
	Lend func(size int) (memory []byte, release func(), err error)
	// Random draws request ids.
	Random func(id []byte)

	Limits Limits
	Logger *slog.Logger // nil: no log
}

// Limits bound what callers can make a door hold. A zero field takes the
// default.
type Limits struct {
	Connections int           // open at once, 256
	Request     time.Duration // for one request, 30 s: a drain answers at once, an unseal takes scrypt-free seconds
	Idle        time.Duration // between two requests, 1 min
}

// maxBody bounds the body of a request.
const maxBody = 64 << 10

func (cfg Config) fill() (Config, error) {
	if cfg.Limits.Connections == 0 {
		cfg.Limits.Connections = 256
	}
	if cfg.Limits.Request == 0 {
		cfg.Limits.Request = 30 * time.Second
	}
	if cfg.Limits.Idle == 0 {
		cfg.Limits.Idle = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New(text))
		}
	}
	fault(cfg.Gate == nil, "Gate is missing")
	fault(cfg.Health == nil, "Health is missing")
	fault(cfg.Listener == nil, "Listener is missing")
	fault(cfg.Lend == nil, "Lend is missing")
	fault(cfg.Random == nil, "Random is missing")
	fault(cfg.Limits.Connections < 1 || cfg.Limits.Request < time.Millisecond || cfg.Limits.Idle < time.Millisecond, "limits must be positive")
	return cfg, errors.Join(faults...)
}
