package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cloakroom"
	"cloakroom/client"
)

// nodes are the commands about the nodes of a cluster.
func (a *app) nodes() *cobra.Command {
	c := &cobra.Command{Use: "nodes", Short: "List, admit, drain and remove the nodes of a cluster"}
	c.AddCommand(a.nodesList(), a.nodesAdmit(), a.nodesDrain(), a.nodesRemove(), a.nodesSafeToStop())
	return c
}

// errNotSafe means that a node can't be stopped now.
var errNotSafe = errors.New("not safe to stop now")

// errNowhere means that a drain has done what it can.
var errNowhere = errors.New("there is no other node for the replicas: only its leaders were moved")

// named runs what a command does with the node of its first argument.
func (a *app) named(run func(ctx context.Context, server *client.Client, name string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := checkNodeName(args[0]); err != nil {
			return usage(err)
		}
		server, err := a.operator(c.Context())
		if err != nil {
			return err
		}
		defer server.Close()
		return run(c.Context(), server, args[0])
	}
}

// checkNodeName refuses what no node can be called, before it gets into a path.
func checkNodeName(name string) error {
	if name == "" || len(name) > cloakroom.MaxNameBytes || name[0] < 'a' || name[0] > 'z' {
		return errNodeName
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return errNodeName
		}
	}
	return nil
}

var errNodeName = errors.New("want the name of a node, as `nodes list` shows it")

func (a *app) nodesList() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "list",
		Short: "List the nodes of the cluster",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			server, err := a.operator(c.Context())
			if err != nil {
				return err
			}
			defer server.Close()
			list, err := server.Nodes(c.Context())
			if err != nil {
				return err
			}
			return a.printNodeList(list)
		},
	})
}

func (a *app) printNodeList(list []client.Node) error {
	if a.json {
		if list == nil {
			list = []client.Node{}
		}
		return printJSON(a.out, map[string][]client.Node{"nodes": list})
	}
	rows := [][]string{{"node", "state", "heard", "zone", "cluster port", "api", "replicas", "leads", "fingerprint"}}
	waits := ""
	for _, n := range list {
		name := n.Name
		if n.Here {
			name += " *"
		}
		rows = append(rows, []string{name, nodeState(&n), yesNo(n.Alive), n.Zone, n.Address, n.API,
			fmt.Sprint(n.Replicas), fmt.Sprint(n.Leads), n.Fingerprint})
		if n.State == "pending" && waits == "" {
			waits = n.Name
		}
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	if waits != "" {
		fmt.Fprintf(a.err, "%s waits for a custodian: compare the fingerprint with the one in its log, then `cloakroom nodes admit %s FINGERPRINT`.\n", printable(waits), printable(waits))
	}
	return nil
}

func (a *app) nodesAdmit() *cobra.Command {
	c := &cobra.Command{
		Use:   "admit NAME FINGERPRINT",
		Short: "Let a node that waits have the keys",
		Long: `Admit gives a node the keys of the cluster: one that joined with a token, or one
that starts again so late that nobody is sure any more. The fingerprint is the one
that the node prints in its own log; it must be compared there, since whoever
copied a token could have put another node in its place.

It takes the token of a custodian, in a single-person cluster that of the
operator.`,
		Args: wantArgs(2, "want the name of the node and its fingerprint, as the node's log shows it"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := client.CheckFingerprint(args[1]); err != nil {
			return usage(err)
		}
		return a.named(func(ctx context.Context, server *client.Client, name string) error {
			if err := server.AdmitNode(ctx, name, args[1]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is admitted\n", name)
			return nil
		})(c, args)
	}
	return c
}

func (a *app) nodesRemove() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a node out of the cluster for good",
		Long: `Remove takes out a node that was drained. --dead takes out one that will not
come back, with what it held: its replicas are made anew on other nodes. A node
that was removed and comes back is told so; it joins anew with a new token.`,
		Args: wantArgs(1, errNodeName.Error()),
	}
	dead := c.Flags().Bool("dead", false, "it will not come back; what only it held is lost")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.named(func(ctx context.Context, server *client.Client, name string) error {
			if err := server.RemoveNode(ctx, name, *dead); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is removed\n", name)
			return nil
		})(c, args)
	}
	return c
}

func (a *app) nodesSafeToStop() *cobra.Command {
	c := &cobra.Command{
		Use:   "safe-to-stop NAME",
		Short: "Ask whether a node can be stopped without harm",
		Long: `Safe-to-stop ends with 0 if every shard keeps its majority without this node,
and with 3 if not: then it says why. Ask it before each node of a rolling
restart:

  until cloakroom nodes safe-to-stop n2; do sleep 1; done`,
		Args: wantArgs(1, errNodeName.Error()),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.named(func(ctx context.Context, server *client.Client, name string) error {
			safe, reasons, err := server.SafeToStop(ctx, name)
			if err != nil {
				return err
			}
			return a.printSafe(name, safe, reasons)
		})(c, args)
	}
	return a.jsonFlag(c)
}

func (a *app) printSafe(name string, safe bool, reasons []string) error {
	if a.json {
		if reasons == nil {
			reasons = []string{}
		}
		if err := printJSON(a.out, map[string]any{"node": name, "safe": safe, "reasons": reasons}); err != nil {
			return err
		}
	}
	if safe {
		if !a.json {
			fmt.Fprintf(a.out, "%s is safe to stop\n", name)
		}
		return nil
	}
	for _, reason := range reasons {
		fmt.Fprintf(a.err, "%s\n", printable(reason))
	}
	return fmt.Errorf("%s: %w", name, errNotSafe)
}

func (a *app) nodesDrain() *cobra.Command {
	var leadersOnly, cancel, noWait bool
	c := &cobra.Command{
		Use:   "drain NAME",
		Short: "Move everything away from a node, and wait until it is",
		Long: `Drain moves the leaders and replicas of a node to others and waits until it can
be stopped or removed. It changes nothing for those who read and write.

Where there is no other node for the replicas, only leaders are moved, exit code 3;
--leaders-only asks for no more than that, before a restart. When this command is
interrupted the drain goes on; --cancel ends it.`,
		Args: wantArgs(1, errNodeName.Error()),
	}
	flags := c.Flags()
	flags.BoolVar(&leadersOnly, "leaders-only", false, "move leaders only")
	flags.BoolVar(&cancel, "cancel", false, "end a drain: the node may hold replicas again")
	flags.BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	c.RunE = func(c *cobra.Command, args []string) error {
		if leadersOnly && cancel {
			return usagef("give --leaders-only or --cancel, not both")
		}
		return a.named(func(ctx context.Context, server *client.Client, name string) error {
			if err := server.DrainNode(ctx, name, leadersOnly, cancel); err != nil {
				return err
			}
			switch {
			case cancel:
				fmt.Fprintf(a.out, "%s is a member like the others again\n", name)
				return nil
			case noWait:
				fmt.Fprintf(a.out, "%s is draining\n", name)
				return nil
			}
			return a.waitForDrain(ctx, server, name, leadersOnly)
		})(c, args)
	}
	return c
}

// drainPoll is how often a drain is looked at; drainPatience how long the
// cluster may have no answer meanwhile.
const (
	drainPoll     = 300 * time.Millisecond
	drainPatience = 30 * time.Second
)

// waitForDrain shows how far a drain is until it is done.
func (a *app) waitForDrain(ctx context.Context, server *client.Client, name string, leadersOnly bool) error {
	what := "replicas"
	if leadersOnly {
		what = "leaders"
	}
	show := a.countdown(what + " moved")
	defer show(0, 0)
	most, answered := 0, time.Now()
	for {
		n, err := server.Node(ctx, name)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w: the drain of %s goes on; `nodes drain %s --cancel` ends it", context.Canceled, name, name)
		case err != nil && (exitCode(err) != exitNotNow || time.Since(answered) > drainPatience):
			return err
		case err != nil: // an election, maybe
		case n.Drain == nil:
			return fmt.Errorf("%s is not draining any more: somebody ended it", name)
		case n.Drain.Done:
			show(0, 0)
			return a.drained(n, leadersOnly)
		default:
			answered = time.Now()
			most = max(most, n.Drain.Left)
			show(most-n.Drain.Left, most)
		}
		if err := pause(ctx, drainPoll); err != nil {
			return fmt.Errorf("%w: the drain of %s goes on; `nodes drain %s --cancel` ends it", err, name, name)
		}
	}
}

// drained says how a drain ended.
func (a *app) drained(n client.Node, leadersOnly bool) error {
	switch {
	case n.Drain.Nowhere && !leadersOnly:
		return fmt.Errorf("%s: %w", n.Name, errNowhere)
	case leadersOnly:
		fmt.Fprintf(a.out, "%s leads nothing any more, until `nodes drain %s --cancel`\n", n.Name, n.Name)
	default:
		fmt.Fprintf(a.out, "%s is drained: it holds nothing and can be stopped, then removed\n", n.Name)
	}
	return nil
}

// wantArgs is cobra.ExactArgs with words of our own.
func wantArgs(n int, want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return errors.New(want)
		}
		return nil
	}
}

// nodeState is the state of a node and how far its drain is.
func nodeState(n *client.Node) string {
	if n.Drain == nil {
		return n.State
	}
	switch {
	case n.Drain.Nowhere:
		return n.State + ", nowhere to go"
	case n.Drain.Done:
		return n.State + ", done"
	}
	return fmt.Sprintf("%s, %d left", n.State, n.Drain.Left)
}
