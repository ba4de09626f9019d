package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cloakroom/client"
	"cloakroom/internal/people"
	"cloakroom/node"
)

// devFlags are the flags of dev.
type devFlags struct {
	listen, token, caOut, memoryLock, memoryLimit string
	nodes                                         nodeCount
	people                                        int
	domains                                       []string
	tls                                           bool
	ceiling                                       int
	hooks                                         devHooks
}

// Flags that only builds with the tag dumptest have.
const (
	dumpTestKeys = "dump-test-keys"
	dumpTestLeak = "dump-test-leak"
)

func (a *app) dev() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a throw-away cluster to try things out",
		Long: `Dev runs a node in this process, or several with --nodes, with nothing on disk:
when it ends, everything is gone. It declares display_name, email, phone,
birth_date, national_id and address, and prints a token that may do everything,
which no real one may.

Nodes listen on --listen and the ports after it, and any of them answers any
request. Each of three holds every value, and one can die: dev kill and dev
restart, given in another terminal, play that. Of two, both hold every value and
none can die. Of four or five, three hold each value: one can die, and after a
second death some shards may have no majority.

A person has a pseudonym of its own in each --domain: deposit --issuer shows it.

A token given with --token can be seen by every user of this machine;
--token-file reads it from a file, and without either a random one is made.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runDev(c.Context(), &f) },
	}
	c.PersistentFlags().StringVar(&a.control, "control", os.Getenv("CLOAKROOM_CONTROL"), "unix socket for orders to a dev process; derived from its first port if not given (CLOAKROOM_CONTROL)")
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", defaultAddr, "address to listen on; port 0 takes any free one")
	f.nodes = 1
	flags.Var(&f.nodes, "nodes", fmt.Sprintf("number of nodes, 1 to %d", maxDevNodes))
	flags.StringVar(&f.token, "token", "", "token of the one principal")
	flags.IntVar(&f.people, "people", 0, "number of made-up people to deposit")
	flags.StringSliceVar(&f.domains, "domain", nil, "pseudonymisation domain beside the default one; may be given several times")
	flags.BoolVar(&f.tls, "tls", false, "serve TLS, with a certificate made for this run")
	flags.StringVar(&f.caOut, "ca-out", "cloakroom-dev-ca.pem", "file to write that certificate to, for --cacert")
	flags.StringVar(&f.memoryLock, "memory-lock", "auto", "auto, required or off: what to do when memory can't be locked")
	flags.StringVar(&f.memoryLimit, "memory-limit", "4GiB", "size of the record memory of each node")
	flags.IntVar(&f.ceiling, "bench-ceiling", 0, "answer everything with so many bytes and do nothing else")
	f.hooks.flags(c)
	for _, name := range []string{"bench-ceiling", dumpTestKeys, dumpTestLeak} {
		_ = flags.MarkHidden(name) // those of the dump test exist in its builds only
	}
	c.AddCommand(a.devOrders()...)
	return c
}

// maxDevNodes bounds the nodes of one process: their memory is this machine's.
const maxDevNodes = 5

// nodeCount is the value of --nodes.
type nodeCount int

// Set reads it; the range is checked with the other flags.
func (n *nodeCount) Set(text string) error {
	number, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("want 1 to %d", maxDevNodes)
	}
	*n = nodeCount(number)
	return nil
}

// String returns what Set takes.
func (n *nodeCount) String() string { return strconv.Itoa(int(*n)) }

// Type is how help calls it.
func (n *nodeCount) Type() string { return "int" }

func (a *app) runDev(ctx context.Context, f *devFlags) error {
	if !a.keepDumpable {
		if err := quiet(); err != nil {
			return err
		}
	}
	token, err := a.devToken(f)
	if err != nil {
		return err
	}
	cfg, err := a.devConfig(f, token)
	if err != nil {
		return usage(err)
	}
	nodes, err := newFleet(int(f.nodes), f.listen)
	if err != nil {
		return usage(err)
	}
	if f.tls {
		if cfg.TLS, err = devTLS(f.listen, f.caOut); err != nil {
			return err
		}
	}
	nodes.config, nodes.hooks = func() node.Config { return cfg }, &f.hooks
	if err := nodes.start(ctx); err != nil {
		return errors.Join(err, nodes.close())
	}
	f.hooks.watch(nodes)
	if err := a.serveDev(ctx, f, nodes, token); err != nil {
		return errors.Join(err, nodes.close())
	}
	fmt.Fprintln(a.err, "Stopping; everything in memory is wiped.")
	return nodes.close()
}

// serveDev takes orders and says that all is ready, until ctx ends.
func (a *app) serveDev(ctx context.Context, f *devFlags, nodes *fleet, token []byte) error {
	urlOf := func(addr string) string { return devURL(addr, f.tls) }
	if f.nodes > 1 || a.control != "" {
		orders, err := startControl(nodes, urlOf, a.control, nodes.seats[0].listen)
		if err != nil {
			return err
		}
		defer orders.close()
	}
	list := nodes.list(urlOf)
	if err := a.devPeople(ctx, f, list[0].URL, token); err != nil {
		return err
	}
	a.printReady(f, list, token)
	<-ctx.Done()
	return nil
}

// devConfig makes a configuration of the flags, or tells all that is wrong
// with them.
func (a *app) devConfig(f *devFlags, token []byte) (node.Config, error) {
	cfg := node.DevConfig(token)
	cfg.KeepDumpable, cfg.Domains = a.keepDumpable, f.domains
	if f.ceiling > 0 {
		answer := bytes.Repeat([]byte("x"), f.ceiling)
		cfg.Fixed = func(string, string) []byte { return answer }
	}
	limit, err := parseBytes(f.memoryLimit)
	faults := []error{err, cfg.LimitMemory(f.memoryLock, limit)}
	if f.nodes < 1 || f.nodes > maxDevNodes {
		faults = append(faults, fmt.Errorf("--nodes: want 1 to %d", maxDevNodes))
	}
	if f.ceiling < 0 {
		faults = append(faults, errors.New("--bench-ceiling is negative"))
	}
	if f.people < 0 {
		faults = append(faults, errors.New("--people is negative"))
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		faults = append(faults, fmt.Errorf("--listen: want HOST:PORT"))
	} else if ip := net.ParseIP(host); !f.tls && host != "localhost" && !ip.IsLoopback() {
		faults = append(faults, errors.New("--listen: beyond the loopback interface, token and values would travel in clear: add --tls"))
	}
	return cfg, errors.Join(faults...)
}

// devToken returns the token given, or a random one.
func (a *app) devToken(f *devFlags) ([]byte, error) {
	switch {
	case f.token != "" && a.tokenFile != "":
		return nil, usagef("give --token or --token-file, not both (CLOAKROOM_TOKEN_FILE counts)")
	case f.token != "":
		if _, err := client.NewToken([]byte(f.token)); err != nil {
			return nil, usagef("--token: %w", err)
		}
		return []byte(f.token), nil
	case a.tokenFile != "":
		if _, err := a.readToken(); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(a.tokenFile)
		return []byte(strings.TrimSpace(string(text))), err
	}
	var random [24]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("draw token: %w", err)
	}
	return []byte(base64.RawURLEncoding.EncodeToString(random[:])), nil
}

func devURL(addr string, tls bool) string {
	if tls {
		return "https://" + addr
	}
	return "http://" + addr
}

// printReady says where the nodes are and what to try first. The first line is
// for programs that wait for it.
func (a *app) printReady(f *devFlags, nodes []placed, token []byte) {
	url := nodes[0].URL
	fmt.Fprintf(a.out, "ready %s\n", url)
	bearer, cacert, data := string(token), "", `'{"fields":{"display_name":"Ada Lovelace"}}'`
	if a.tokenFile != "" {
		bearer = `'"$(cat ` + a.tokenFile + `)"'`
		fmt.Fprintf(a.out, "token in %s\n", a.tokenFile)
	} else {
		fmt.Fprintf(a.out, "token %s\n", token)
	}
	if f.tls {
		fmt.Fprintf(a.out, "cacert %s\n", f.caOut)
		cacert = " --cacert " + f.caOut
	}
	path := "/v1/subjects"
	if f.people > 0 {
		crowd, _ := people.New(people.Config{Seed: 1})
		path, data = "/v1/resolve", `'{"ids":["`+crowd.ID(0).String()+`"],"fields":["display_name"]}'`
		fmt.Fprintf(a.out, "people %d\n", f.people)
	}
	for _, n := range nodes[1:] {
		fmt.Fprintf(a.out, "node %d %s\n", n.Node, n.URL)
	}
	fmt.Fprintf(a.out, "\nThe token may do everything and nothing is kept: for trying out only. Begin with\n\n"+
		"  curl -sS%s -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d %s %s%s\n\n",
		cacert, bearer, data, url, path)
	if len(nodes) > 2 {
		order := a.orderFor(url)
		fmt.Fprintf(a.out, "Every node answers. In another terminal, let one die and ask another; then bring it back:\n\n"+
			"  %s kill 2\n  %s restart 2\n\n", order, order)
	}
}

// orderFor is how orders to this process begin, whose first node is at url.
func (a *app) orderFor(url string) string {
	command := os.Args[0]
	switch {
	case a.control != "":
		return command + " dev --control " + a.control
	case url != devURL(defaultAddr, false):
		return command + " --addr " + url + " dev"
	}
	return command + " dev"
}

// parseBytes reads a size such as 512MiB.
func parseBytes(text string) (int64, error) {
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err == nil && n > 0 && n < 1<<20 {
				return n << (10 * (i + 1)), nil
			}
		}
	}
	return 0, fmt.Errorf("--memory-limit: want a size such as 512MiB or 4GiB")
}
