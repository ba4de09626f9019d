package api

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"cloakroom/securemem"
)

// Config says how a front door is built. Deadlines of sockets are the
// kernel's, so there is no clock to set.
type Config struct {
	Service  Service
	Pool     *securemem.Pool // of request and reply buffers
	Listener net.Listener    // owned by the server from New on
	TLS      *tls.Config     // nil: no TLS; cloned
	Limits   Limits
	Logger   *slog.Logger // nil: no log

	// Observe is told of every call that was answered: its name, the status,
	// and the time from its header to the last byte written. nil: nobody.
	Observe func(call string, status int, took time.Duration)

	// Fixed is for the bench only: when it returns bytes, the body is read
	// and thrown away and the bytes are the answer, without authentication,
	// decoding or the service. What such a server does is the ceiling of what
	// this one can do.
	Fixed func(method, path string) []byte
}

// clone returns the config with defaults filled in, or all its faults.
func (cfg Config) clone() (Config, error) {
	cfg.Limits.fill()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	if cfg.Service == nil {
		faults = append(faults, errors.New("service is missing"))
	}
	if cfg.Pool == nil {
		faults = append(faults, errors.New("pool is missing"))
	}
	if cfg.Listener == nil {
		faults = append(faults, errors.New("listener is missing"))
	}
	if cfg.TLS != nil {
		conf, err := serverTLS(cfg.TLS)
		if err != nil {
			faults = append(faults, err)
		}
		cfg.TLS = conf
	}
	faults = append(faults, cfg.Limits.check())
	return cfg, errors.Join(faults...)
}

// serverTLS clones conf and settles what the front door depends on.
func serverTLS(conf *tls.Config) (*tls.Config, error) {
	if len(conf.Certificates) == 0 && conf.GetCertificate == nil && conf.GetConfigForClient == nil {
		return nil, errors.New("tls: certificate is missing")
	}
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	// HTTP/2 frames go through buffers that nobody can reach to wipe.
	conf.NextProtos = []string{"http/1.1"}
	// One record, and one write, for a reply of up to 16 KiB.
	conf.DynamicRecordSizingDisabled = true
	return conf, nil
}
