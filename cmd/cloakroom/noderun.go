package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"cloakroom/cmd/cloakroom/nodefile"
	"cloakroom/node"
)

func (a *app) nodeRun() *cobra.Command {
	var path, joinToken string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the node that a configuration file describes",
		Long: `Run starts a node and stays in the foreground until it gets SIGTERM or SIGINT;
then it hands over what it leads and lets requests end. SIGHUP has it read the
configuration file again: certificates, limits and the log level are taken over,
what takes a restart is named in the log.

The first run after node init founds the cluster. A node of a cluster that was
made elsewhere joins it with a token, once:

  cloakroom node run --config n2.yaml --join-token-file join.token

Once the node answers requests, "ready" and its addresses are printed. Until then
its operator listener says what it waits for: cloakroom status.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runNode(c.Context(), path, joinToken) },
	}
	c.Flags().StringVar(&joinToken, "join-token-file", "", "file with a token to join with, - for standard input")
	return configFlag(c, &path)
}

// host is a node that runs in this process, and what it was made from.
type host struct {
	app   *app
	file  *nodefile.File
	log   *slog.Logger
	level *slog.LevelVar
	certs *certificates // nil: none of its own
	node  *node.Node

	running nodefile.File // what is in force; of the goroutine that reads it anew
}

func (a *app) runNode(ctx context.Context, path, joinToken string) error {
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	if !a.keepDumpable {
		if err := quiet(); err != nil {
			return err
		}
	}
	h := &host{app: a, file: file, running: *file, level: new(slog.LevelVar)}
	h.log = newLog(a.err, file, h.level)
	cfg, err := h.config(joinToken)
	if err != nil {
		return err
	}
	if h.node, err = node.Open(ctx, cfg); err != nil {
		return err
	}
	if err := h.serve(ctx); err != nil {
		return errors.Join(err, h.node.Close())
	}
	return h.end()
}

// serve opens both doors, brings the node up and keeps it up until ctx ends.
func (h *host) serve(ctx context.Context) error {
	doors, err := openDoors(h.file)
	if err != nil {
		return err
	}
	defer doors.close()
	if err := h.node.ServeOperators(doors.operator); err != nil {
		return err
	}
	doors.operator = nil
	if err := h.node.Serve(doors.api); err != nil {
		return err
	}
	doors.api = nil
	stop := h.onHangup(ctx)
	defer stop()
	h.log.Info("node started", "node", h.file.Node.Name, "version", node.Version(), "operators", h.file.Operator.Listen,
		"api", h.file.API.Listen, "cluster", h.file.Cluster.Listen, "fingerprint", h.node.TLSFingerprint())
	h.introduce()
	if err := h.node.Run(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it was up
		}
		return &startError{err: err, removed: h.node.Stage() == node.Removed}
	}
	h.introduce()
	h.log.Info("node ready", "node", h.file.Node.Name, "cluster_fingerprint", h.node.ClusterFingerprint())
	fmt.Fprintf(h.app.out, "ready %s\noperator %s\n", h.apiURL(), h.file.Operator.Listen)
	if err := tellSupervisor("READY=1"); err != nil {
		h.log.Warn("the supervisor could not be told", "error", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-h.node.Gone():
		return &startError{err: errors.New("this node was removed from the cluster"), removed: true}
	}
}

// startError is why a node did not come up, or does not go on, for good. What it wraps is told,
// but is no answer to a caller.
type startError struct {
	err     error
	removed bool
}

func (e *startError) Error() string { return e.err.Error() }

// hint says what to do next.
func (e *startError) hint() string {
	if e.removed {
		return "On a node of the cluster make a token, `cloakroom join-token create`, and start this one again with --join-token-file."
	}
	return "The log above says how far it came. Nothing was changed that a further start would not find."
}

// introduce has the commands that the same user gives on this machine know this
// node without being told its fingerprint. A service without a home has nobody
// to tell.
func (h *host) introduce() {
	servers, err := readKnown()
	addr := h.operatorAddr()
	if err == nil && addr != "" {
		err = servers.remember(addr, h.node.TLSFingerprint(), h.node.ClusterFingerprint())
	}
	if err != nil {
		h.log.Debug("own fingerprint not noted", "error", err)
	}
}

// operatorAddr is how the operator listener is reached on this machine; "" for
// a socket, which needs no fingerprint.
func (h *host) operatorAddr() string {
	host, port, err := net.SplitHostPort(h.file.Operator.Listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// end stops the node in order.
func (h *host) end() error {
	tellSupervisor("STOPPING=1") //nolint:errcheck // it will see
	h.log.Info("node stopping: leads are handed over, requests end")
	h.node.Leave(h.file.API.Linger)
	err := h.node.Close()
	if err == nil {
		h.log.Info("node stopped")
	}
	return err
}

func (h *host) apiURL() string {
	scheme := "http://"
	if h.file.TLSFiles() || h.file.API.TLS != "" {
		scheme = "https://"
	}
	return scheme + h.file.API.Advertise
}

// config makes of the file what a node is made of.
func (h *host) config(joinToken string) (node.Config, error) {
	f := h.file
	cfg := node.Config{
		Name: f.Node.Name, Folder: f.Node.Data, Logger: h.log, KeepDumpable: h.app.keepDumpable,
		Network: &node.Network{Listen: f.Cluster.Listen, Advertise: f.Cluster.Advertise, Zone: f.Node.Zone, API: f.API.Advertise},
		OwnTLS:  f.API.TLS == "internal",
	}
	cfg.LimitCallers(f.Limits.Connections, f.Limits.Requests, f.Limits.Streams, f.Limits.StreamsEach)
	if _, given := f.Given("cluster.shards"); given {
		cfg.Shards = f.Cluster.Shards
	}
	if _, given := f.Given("cluster.replication"); given {
		cfg.Replication = f.Cluster.Replication
	}
	if _, given := f.Given("cluster.dead_after"); given {
		cfg.DeadAfter = f.Cluster.DeadAfter
	}
	if _, given := f.Given("cluster.handover_window"); given {
		cfg.HandoverWindow = f.Cluster.HandoverWindow
	}
	cfg.Installs = f.Cluster.Installs
	if err := cfg.LimitMemory(f.Memory.Lock, f.Memory.Limit); err != nil {
		return cfg, err
	}
	if f.TLSFiles() {
		h.certs = &certificates{cert: f.API.Cert, key: f.API.Key}
		if err := h.certs.load(); err != nil {
			return cfg, err
		}
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: h.certs.get}
	}
	var err error
	if cfg.JoinToken, err = h.app.readJoinToken(joinToken); err != nil {
		return cfg, err
	}
	return cfg, cfg.RecordIn(f.Audit.File, f.Audit.OnFailure)
}

// maxJoinToken bounds the text of a join token.
const maxJoinToken = 16 << 10

// readJoinToken reads the token to join with; none is named, none is returned.
func (a *app) readJoinToken(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	in, err := a.open(path, "join token")
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // it was read only
	text, err := io.ReadAll(io.LimitReader(in, maxJoinToken+1))
	switch text = bytes.TrimSpace(text); {
	case err != nil:
		return nil, fmt.Errorf("read join token: %w", err)
	case len(text) == 0:
		return nil, usagef("%s is empty: want a token of `cloakroom join-token create`", path)
	case len(text) > maxJoinToken || bytes.ContainsAny(text, " \n\t"):
		return nil, usagef("%s holds more than one token: each node joins with one of its own", path)
	}
	return text, nil
}

// doors are the listeners of a node until the node owns them.
type doors struct{ api, operator net.Listener }

func (d *doors) close() {
	for _, l := range []net.Listener{d.api, d.operator} {
		if l != nil {
			l.Close() //nolint:errcheck // nobody came in
		}
	}
}

// openDoors opens the ports for services and operators.
func openDoors(f *nodefile.File) (*doors, error) {
	d := &doors{}
	var err error
	if d.api, err = net.Listen("tcp", f.API.Listen); err != nil {
		return nil, listenError("api.listen", err)
	}
	if socket := f.OperatorSocket(); socket != "" {
		d.operator, err = listenSocket(socket)
	} else {
		d.operator, err = net.Listen("tcp", f.Operator.Listen)
	}
	if err != nil {
		d.close()
		return nil, listenError("operator.listen", err)
	}
	return d, nil
}

func listenError(key string, err error) error {
	return fmt.Errorf("open %s: %w (another process may have it: name another address in the configuration file)", key, err)
}

// listenSocket listens on a unix socket that only this user may open, from its
// first moment on. One that a process left behind is replaced.
func listenSocket(path string) (net.Listener, error) {
	if err := removeDead(path); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // it is empty
	own := filepath.Join(folder, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: own, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by a name that it has no more
	if err := errors.Join(os.Chmod(own, 0o600), os.Rename(own, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &socketListener{listener, path}, nil
}

// removeDead removes a socket on which nobody listens.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close() //nolint:errcheck // somebody is there
		return fmt.Errorf("a process listens on %s", path)
	}
	return os.Remove(path)
}

// socketListener removes its socket at the end.
type socketListener struct {
	*net.UnixListener
	path string
}

func (l *socketListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		os.Remove(l.path) //nolint:errcheck // the next start does it
	}
	return err
}

// certificates are those of the front door, read anew on SIGHUP.
type certificates struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]
}

func (c *certificates) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("read api.tls: %w", err)
	}
	c.now.Store(&pair)
	return nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }
