package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"cloakroom/cmd/cloakroom/nodefile"
)

// onHangup has SIGHUP read the configuration file again, until stop is called.
func (h *host) onHangup(ctx context.Context) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-hangup:
				h.reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		cancel()
		<-done
	}
}

// reload takes over what a running node can, and says what it cannot. A file
// with a fault changes nothing.
func (h *host) reload() {
	next, err := nodefile.Read(h.file.Path)
	if err != nil {
		for _, fault := range faultsOf(err) {
			h.log.Error("configuration fault", "file", h.file.Path, "fault", fault)
		}
		h.log.Error("configuration not taken over: mend it and send SIGHUP again", "error", err)
		return
	}
	taken, restart := h.running.Compare(next)
	if h.certs != nil && next.TLSFiles() {
		fresh := &certificates{cert: next.API.Cert, key: next.API.Key}
		if err := fresh.load(); err != nil {
			h.log.Error("certificate not taken over: the one before goes on", "error", err)
		} else {
			h.certs.now.Store(fresh.now.Load())
		}
	}
	setLevel(h.level, next)
	l := &next.Limits
	if err := h.node.LimitCallers(l.Connections, l.Requests, l.Streams, l.StreamsEach); err != nil {
		h.log.Error("limits not taken over", "error", err)
	}
	h.log.Info("configuration read again", "taken_over", strings.Join(taken, ", "))
	if len(restart) > 0 {
		h.log.Warn("configuration changes that take a restart", "keys", strings.Join(restart, ", "))
	}
	h.running.Log.Level, h.running.API.Cert, h.running.API.Key = next.Log.Level, next.API.Cert, next.API.Key
	h.running.Limits = next.Limits
}
