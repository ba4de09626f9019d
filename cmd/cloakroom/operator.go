package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"cloakroom/client"
)

// defaultOperator is where a node on this machine listens for operators.
const defaultOperator = "127.0.0.1:8201"

// operatorAddr is the address of the operator listener that was named, or the
// one of a node on this machine.
func (a *app) operatorAddr() string {
	if a.addrGiven() {
		return a.addr
	}
	return cmp.Or(os.Getenv("CLOAKROOM_OPERATOR_ADDR"), os.Getenv("CLOAKROOM_ADDR"), defaultOperator)
}

// operator returns a client for the operator listener. It recognises the
// server by its fingerprint: given, known from before, or, at a terminal,
// confirmed by whoever sits there.
func (a *app) operator(ctx context.Context) (*client.Client, error) {
	return a.operatorAt(ctx, a.operatorAddr())
}

func (a *app) operatorAt(ctx context.Context, addr string) (*client.Client, error) {
	cfg := client.Config{Addr: addr, Timeout: a.timeout, Total: a.timeout}
	if a.tokenFile != "" {
		token, err := a.readToken()
		if err != nil {
			return nil, err
		}
		cfg.Token = token
	}
	switch {
	case a.caCert != "":
		cfg.CACert = a.caCert
	case isPlain(addr):
	default:
		if err := a.recognise(ctx, &cfg); err != nil {
			return nil, err
		}
	}
	server, err := client.New(cfg)
	if err != nil {
		return nil, usage(err)
	}
	return server, nil
}

// isPlain reports whether no TLS is spoken at addr: a socket, or http://.
func isPlain(addr string) bool {
	return strings.HasPrefix(addr, "unix:") || strings.HasPrefix(addr, "http://")
}

// recognise makes a client take the right server for what it is and no other.
func (a *app) recognise(ctx context.Context, cfg *client.Config) error {
	if a.fingerprint != "" {
		if err := client.CheckFingerprint(a.fingerprint); err != nil {
			return usagef("--fingerprint: %w", err)
		}
	}
	servers, err := readKnown()
	if err != nil {
		return err
	}
	host := hostOf(cfg.Addr)
	cfg.Peer = servers.peer(host, a.fingerprint)
	if a.fingerprint != "" || servers.has(host) {
		return nil
	}
	return a.firstContact(ctx, cfg, servers, host)
}

// pinFrontDoor holds the API of a node to a fingerprint, if one is given or the
// cluster on that host is known: with `api.tls: internal` its certificate is of
// the cluster's own authority. Other certificates are checked in the usual way.
func (a *app) pinFrontDoor(cfg *client.Config) error {
	host := hostOf(cfg.Addr)
	if cfg.CACert != "" || isPlain(cfg.Addr) || a.fingerprint == "" && cfg.Addr == host && isLoopback(host) {
		return nil
	}
	if a.fingerprint != "" {
		return a.recognise(context.Background(), cfg)
	}
	servers, err := readKnown()
	if err == nil && (servers.has(host) || !isLoopback(host) && servers.hasHost(host)) {
		cfg.Peer = servers.peer(host, "")
	}
	return nil // what is not known is checked by its name and authority
}

// firstContact looks at a server that is not known, before anything is sent to
// it. On this machine it may be one that speaks no TLS, such as dev.
func (a *app) firstContact(ctx context.Context, cfg *client.Config, servers *known, host string) error {
	err := shake(ctx, host, cfg.Peer)
	var stranger *client.FingerprintError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &notTLS) && cfg.Addr == host && isLoopback(host):
		cfg.Addr, cfg.Peer = "http://"+host, nil
		return nil
	case !errors.As(err, &stranger):
		return nil // the call itself will tell, or all is well
	case !isTerminal(a.in) || !isTerminal(a.err) || a.tokenFile == "-":
		return stranger
	}
	fmt.Fprintf(a.err, "%s is not known yet. It shows the fingerprint\n\n  %s\n\nIs that the one that `node init`, or the log of that node, shows? (yes/no) ", printable(host), stranger.Node)
	answer, err := bufio.NewReader(io.LimitReader(a.in, 64)).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return stranger
	}
	cfg.Peer = servers.peer(host, stranger.Node)
	return nil
}

// shake shakes hands with a server and hangs up.
func shake(ctx context.Context, host string, peer func(node, cluster string) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // nothing was said
	return tls.Client(raw, client.PeerTLS(peer)).HandshakeContext(ctx)
}

// hostOf is host:port of an address.
func hostOf(addr string) string {
	return strings.TrimSuffix(strings.TrimPrefix(addr, "https://"), "/")
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
