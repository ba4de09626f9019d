package peer

import (
	"context"
	"net"
)

// Carrier is where the bytes between nodes travel. Its connections must be
// usable from several goroutines, and Close must wake those that read or write.
type Carrier interface {
	Listen(addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// TCP returns the carrier of real clusters.
func TCP() Carrier { return tcp{} }

type tcp struct{}

func (tcp) Listen(addr string) (net.Listener, error) {
	var listen net.ListenConfig // with keep-alive probes
	return listen.Listen(context.Background(), "tcp", addr)
}

func (tcp) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var dial net.Dialer // with keep-alive probes and no delay of small writes
	return dial.DialContext(ctx, "tcp", addr)
}
