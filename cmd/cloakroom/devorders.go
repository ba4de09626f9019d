package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// devOrders are the commands for a dev process that is running.
func (a *app) devOrders() []*cobra.Command {
	kill := &cobra.Command{
		Use:   "kill NUMBER",
		Short: "Kill a node of a running dev process",
		Long: `Kill ends a node of the dev process like a crash: it answers nobody any more and
tells nobody. Its memory is wiped. The others elect new leaders, in about 1.2 s
(median) and under 2 s, and go on.

A node without which a majority of replicas would be lost is not killed, exit
code 3: what only memory holds cannot be brought back. --force does it all the
same.`,
		Args: oneNode,
	}
	force := kill.Flags().Bool("force", false, "kill it even if that loses data")
	kill.RunE = func(c *cobra.Command, args []string) error {
		return a.devOrder(c, order{Command: "kill", Force: *force}, args[0])
	}
	restart := &cobra.Command{
		Use:   "restart NUMBER",
		Short: "Bring a killed node of a running dev process back",
		Long: `Restart brings a node that was killed back under its name and addresses. Its
memory is gone, so it joins anew and gets everything from the others. Restart
returns when every shard tolerates the loss of a node again.`,
		Args: oneNode,
		RunE: func(c *cobra.Command, args []string) error {
			return a.devOrder(c, order{Command: "restart"}, args[0])
		},
	}
	for _, c := range []*cobra.Command{kill, restart} {
		c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
			var short interface{ GetSpecifiedShortnames() string } // of pflag
			if errors.As(err, &short) && short.GetSpecifiedShortnames() != "" {
				return errNumber // such as -1
			}
			return err
		})
	}
	kill.ValidArgsFunction, restart.ValidArgsFunction = a.nodesThatAre(alive), a.nodesThatAre(dead)
	list := a.jsonFlag(&cobra.Command{
		Use:   "list",
		Short: "List the nodes of a running dev process",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			last, err := a.tellDev(c.Context(), a.control, order{Command: "list"})
			if err != nil {
				return err
			}
			return a.printNodes(last.Nodes)
		},
	})
	return []*cobra.Command{kill, restart, list}
}

// nodesThatAre completes the numbers of the nodes in a state.
func (a *app) nodesThatAre(state seatState) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) (numbers []string, _ cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		last, err := a.tellDev(c.Context(), a.control, order{Command: "list"})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, n := range last.Nodes {
			if n.State == string(state) {
				numbers = append(numbers, strconv.Itoa(n.Node))
			}
		}
		return numbers, cobra.ShellCompDirectiveNoFileComp
	}
}

var errNumber = errors.New("want the number of a node, 1 for the first; dev list shows them")

func oneNode(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errNumber
	}
	return nil
}

func (a *app) devOrder(c *cobra.Command, o order, number string) error {
	var err error
	if o.Node, err = strconv.Atoi(number); err != nil || o.Node < 1 {
		return usage(errNumber)
	}
	last, err := a.tellDev(c.Context(), a.control, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, printable(last.Text))
	return nil
}

func (a *app) printNodes(nodes []placed) error {
	if a.json {
		return printJSON(a.out, map[string][]placed{"nodes": nodes})
	}
	rows := [][]string{{"node", "state", "address", "cluster port", "leads"}}
	for _, n := range nodes {
		rows = append(rows, []string{strconv.Itoa(n.Node), n.State, n.URL, n.Cluster, fmt.Sprintf("%d groups", n.Leads)})
	}
	return table(a.out, rows)
}

// orderError is what a dev process answered to an order that failed.
type orderError struct {
	code int
	text string
}

func (e *orderError) Error() string { return e.text }

// tellDev gives an order to the dev process at a socket, or at the one that
// belongs to --addr, and returns its last word.
func (a *app) tellDev(ctx context.Context, path string, o order) (reply, error) {
	if path == "" {
		var err error
		if path, err = a.controlOf(a.addr); err != nil {
			return reply{}, err
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return reply{}, noDev(path, err)
	}
	defer conn.Close()                                      //nolint:errcheck // all was said
	defer context.AfterFunc(ctx, func() { conn.Close() })() //nolint:errcheck // ends the wait below
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return reply{}, fmt.Errorf("ask the dev process: %w", err)
	}
	show := a.catchingUp()
	defer show(0, 0)
	for lines := json.NewDecoder(conn); ; {
		var r reply
		if err := lines.Decode(&r); err != nil {
			if ctx.Err() != nil {
				return reply{}, context.Cause(ctx)
			}
			return reply{}, errors.New("the dev process ended before it answered")
		}
		switch {
		case !r.Done:
			show(r.Ready, r.Of)
		case r.Code != 0:
			return reply{}, &orderError{r.Code, r.Text}
		default:
			return r, nil
		}
	}
}

// controlOf is the socket of the dev process whose first node is at addr.
func (a *app) controlOf(addr string) (string, error) {
	if base, err := url.Parse(addr); err == nil && base.Host != "" {
		addr = base.Host
	}
	path, err := controlPath(addr)
	if err != nil {
		return "", usage(err)
	}
	if err := checkFolder(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, nil
}

// errNoDev is what an order gets when no dev process takes it.
var errNoDev = errors.New("no dev process takes orders")

func noDev(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s", errNoDev, path)
	}
	return fmt.Errorf("ask the dev process: %s", strings.TrimPrefix(err.Error(), "dial unix "))
}
