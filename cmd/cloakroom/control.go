package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A dev process takes commands on a unix socket that only its user can reach.
// A connection carries one order, a JSON text on a line, and gets lines of
// reply, the last of which has Done set.

// order is what is asked of a dev process.
type order struct {
	Command string `json:"command"` // kill, restart or list
	Node    int    `json:"node,omitempty"`
	Force   bool   `json:"force,omitempty"`
}

// reply tells how far an order is, or how it ended.
type reply struct {
	Done  bool     `json:"done"`
	Code  int      `json:"code,omitempty"` // exit code of the command
	Text  string   `json:"text,omitempty"`
	Ready int      `json:"ready,omitempty"` // groups that tolerate the loss of a node, of
	Of    int      `json:"of,omitempty"`
	Nodes []placed `json:"nodes,omitempty"`
}

// placed is one node in a list.
type placed struct {
	Node    int    `json:"node"`
	State   string `json:"state"`
	URL     string `json:"url"`
	Cluster string `json:"cluster,omitempty"`
	Leads   int    `json:"leads"` // groups
}

const (
	maxOrder     = 4 << 10         // bytes
	orderWait    = 5 * time.Second // for the order
	restartLimit = 2 * time.Minute // for a restart, catching up included
)

// controlPath is where the dev process listens whose first node has this data
// address.
func controlPath(addr string) (string, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", errors.New("no port in the address: name the socket with --control")
	}
	folder := filepath.Join(os.TempDir(), fmt.Sprintf("cloakroom-%d", os.Getuid()))
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); runtime != "" {
		folder = filepath.Join(runtime, "cloakroom")
	}
	return filepath.Join(folder, "dev-"+port+".sock"), nil
}

// ownFolder makes the folder of a socket if it isn't there, and makes sure
// that it is nobody else's: the folder for temporary files is everybody's.
func ownFolder(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkFolder(folder)
}

func checkFolder(folder string) error {
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || known && int(owner.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a folder that you alone can reach", folder)
	}
	return nil
}

// listenControl opens the socket at path, with mode 0600 from its first moment
// on: it is made in a folder of its own and then moved. What a dev process that
// is gone left behind is replaced, nothing else.
func listenControl(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close() //nolint:errcheck // nothing was said
		return nil, fmt.Errorf("%s is in use by another dev process", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is there and no socket", path)
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".cloakroom-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // an empty folder
	hidden := filepath.Join(folder, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it is elsewhere by then
	if err := errors.Join(os.Chmod(hidden, 0o600), os.Rename(hidden, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// control serves orders about a fleet.
type control struct {
	fleet    *fleet
	urlOf    func(addr string) string
	path     string
	listener net.Listener
	cancel   context.CancelFunc
	serving  sync.WaitGroup
}

// startControl opens the socket at path, or the one derived from addr.
func startControl(f *fleet, urlOf func(string) string, path, addr string) (*control, error) {
	if path == "" {
		var err error
		if path, err = controlPath(addr); err != nil {
			return nil, err
		}
		if err := ownFolder(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("open control socket: %w (another place: --control)", err)
		}
	}
	listener, err := listenControl(path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w (another place: --control)", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &control{fleet: f, urlOf: urlOf, path: path, listener: listener, cancel: cancel}
	c.serving.Go(func() { c.serve(ctx) }) // close stops it
	return c, nil
}

// close ends the orders under way and removes the socket.
func (c *control) close() {
	c.cancel()
	c.listener.Close() //nolint:errcheck // nobody is left to be told
	os.Remove(c.path)  //nolint:errcheck // the next one replaces it
	c.serving.Wait()
}

func (c *control) serve(ctx context.Context) {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.serving.Go(func() { c.answer(ctx, conn) }) // ends with its order, or with ctx
	}
}

// answer carries out the order of one connection.
func (c *control) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()                                      //nolint:errcheck // all was said
	defer context.AfterFunc(ctx, func() { conn.Close() })() //nolint:errcheck // ends the wait below
	conn.SetReadDeadline(time.Now().Add(orderWait))         //nolint:errcheck // the Read tells
	write := json.NewEncoder(conn)
	var o order
	line, err := bufio.NewReader(io.LimitReader(conn, maxOrder)).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &o) != nil {
		write.Encode(reply{Done: true, Code: exitUsage, Text: "the order is not understood"}) //nolint:errcheck // the asker may be gone
		return
	}
	last := c.carryOut(ctx, o, func(r reply) { write.Encode(r) }) //nolint:errcheck // as above
	last.Done = true
	write.Encode(last) //nolint:errcheck // as above
}

func (c *control) carryOut(ctx context.Context, o order, tell func(reply)) reply {
	began := time.Now()
	var err error
	text := ""
	switch o.Command {
	case "list":
		return reply{Nodes: c.fleet.list(c.urlOf)}
	case "kill":
		err = c.fleet.kill(o.Node, o.Force)
		text = fmt.Sprintf("node %d is dead", o.Node)
	case "restart":
		ctx, cancel := context.WithTimeout(ctx, restartLimit)
		defer cancel()
		err = c.fleet.restart(ctx, o.Node, func(done, of int) { tell(reply{Ready: done, Of: of}) })
		text = fmt.Sprintf("node %d is back after %.1f s", o.Node, time.Since(began).Seconds())
	default:
		err = errors.New("the order is not understood")
	}
	if err != nil {
		return reply{Code: cmp.Or(codeOf(err), exitFailed), Text: err.Error()}
	}
	return reply{Text: text}
}

// codeOf is the exit code of an order that failed.
func codeOf(err error) int {
	switch {
	case errors.Is(err, errNoNode):
		return exitUsage
	case errors.Is(err, errUnsafe):
		return exitNotNow
	}
	return exitCode(err)
}
