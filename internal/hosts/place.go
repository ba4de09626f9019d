//go:build linux

package hosts

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"testing"
)

// Role is which of a node's doors an address is of.
type Role uint8

// The doors of a node.
const (
	API Role = iota
	Operator
	Cluster
)

// Place is where processes run and from where connections are made: a [Host],
// or [Loopback].
type Place interface {
	Command(ctx context.Context, program string, args ...string) *exec.Cmd
	Address(role Role) string
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// loopback is this machine. Each has ports of its own, that were free when they
// were asked for.
type loopback struct {
	t     testing.TB
	mu    sync.Mutex
	addrs map[Role]string
}

// Loopback returns a place on this machine, with ports of its own.
func Loopback(t testing.TB) Place { return &loopback{t: t, addrs: map[Role]string{}} }

func (l *loopback) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, program, args...)
}

func (l *loopback) Address(role Role) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addrs[role] == "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			l.t.Fatal(fmt.Errorf("find a free port: %w", err))
		}
		l.addrs[role] = listener.Addr().String()
		defer listener.Close()
	}
	return l.addrs[role]
}

func (l *loopback) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var dial net.Dialer
	return dial.DialContext(ctx, network, addr)
}
