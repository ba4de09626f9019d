package peertest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Network carries bytes between addresses of one test, in memory. It is a
// [cloakroom/cluster/peer.Carrier] without delay or loss. Everything that
// waits in it waits on channels made where the test runs, so it works inside a
// synctest bubble. The zero value is ready.
type Network struct {
	// Window is how many bytes a connection holds that were written and not
	// yet read; default 64 KiB. Set it before use.
	Window int

	mu        sync.Mutex
	listeners map[string]*listener
	next      int // port of the next connection's near end
}

const defaultWindow = 64 << 10

type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }

// Listen takes an address: any text, each at most once at a time.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: address(addr), Err: syscall.EADDRINUSE}
	}
	if n.listeners == nil {
		n.listeners = map[string]*listener{}
	}
	l := &listener{network: n, addr: address(addr), backlog: make(chan net.Conn, 128), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to a listener; refused if there is none, or if its backlog is
// full.
func (n *Network) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: address(addr), Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	window := n.Window
	if window == 0 {
		window = defaultWindow
	}
	near, far := pair(address(fmt.Sprintf("near:%d", n.next)), address(addr), window)
	if l := n.listeners[addr]; l != nil {
		select {
		case l.backlog <- far:
			return near, nil
		default:
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "memory", Addr: address(addr), Err: syscall.ECONNREFUSED}
}

type listener struct {
	network *Network
	addr    address
	backlog chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-l.backlog:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close frees the address and cuts what was not accepted.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		err = nil
		l.network.mu.Lock() // nothing is put into the backlog any more
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
		close(l.closed)
		for {
			select {
			case conn := <-l.backlog:
				conn.Close()
			default:
				return
			}
		}
	})
	return err
}
