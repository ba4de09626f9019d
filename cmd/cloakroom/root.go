package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

// app is what all commands share: the streams and the flags of the root.
type app struct {
	streams
	begun bool // flags and arguments were understood; a command is running

	addr, tokenFile, caCert string
	fingerprint             string      // of the server
	addrGiven               func() bool // --addr stands on the command line
	timeout                 time.Duration
	json                    bool
	hasBar                  bool   // the command shows its progress itself
	control                 string // socket of a dev process

	keepDumpable bool // dev leaves the process as it is; for tests, which share it
}

const defaultAddr = "127.0.0.1:8200"

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cloakroom",
		Short: "Keep personal data apart, under pseudonyms",
		Long: `Cloakroom takes personal data and hands out a random UUID, the pseudonym.
Everything else stores the pseudonym; only Cloakroom turns it back.

To try it out:

  cloakroom dev

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not now (try again later).`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.begun = true
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.addr, "addr", cmp.Or(os.Getenv("CLOAKROOM_ADDR"), defaultAddr), "address of the server (CLOAKROOM_ADDR)")
	a.addrGiven = func() bool { return flags.Changed("addr") }
	flags.StringVar(&a.fingerprint, "fingerprint", os.Getenv("CLOAKROOM_FINGERPRINT"), "fingerprint of the node or of its cluster, for the first contact (CLOAKROOM_FINGERPRINT)")
	flags.StringVar(&a.tokenFile, "token-file", os.Getenv("CLOAKROOM_TOKEN_FILE"), "file with the token, - for standard input (CLOAKROOM_TOKEN_FILE)")
	flags.StringVar(&a.caCert, "cacert", os.Getenv("CLOAKROOM_CACERT"), "file with the CA certificate to trust, PEM (CLOAKROOM_CACERT)")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "longest time for one request, all its attempts together")
	root.AddCommand(a.dev(), a.deposit(), a.resolve(), a.get(), a.erase(), a.events(), a.importCommand(),
		a.node(), a.unseal(), a.nodes(), a.joinToken(), a.principals(), a.domains(), a.status(), a.shards(), a.schema(), a.version(), a.man(root))
	return root
}

// jsonFlag gives a command --json.
func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

// client returns a client made from the flags.
func (a *app) client() (*client.Client, error) {
	cfg := client.Config{Addr: a.addr, CACert: a.caCert, Timeout: a.timeout, Total: a.timeout}
	if isTerminal(a.err) && !a.hasBar {
		var once sync.Once // per command, however many requests it sends
		cfg.Slow = func() { once.Do(func() { fmt.Fprintln(a.err, "No answer yet: waiting for a leader…") }) }
	}
	if a.tokenFile != "" {
		token, err := a.readToken()
		if err != nil {
			return nil, err
		}
		cfg.Token = token
	}
	if err := a.pinFrontDoor(&cfg); err != nil {
		return nil, err
	}
	server, err := client.New(cfg)
	if err != nil {
		return nil, usage(err)
	}
	return server, nil
}

func (a *app) readToken() (client.Token, error) {
	if a.tokenFile != "-" {
		return client.ReadToken(a.tokenFile)
	}
	text, err := io.ReadAll(io.LimitReader(a.in, 8<<10))
	if err != nil {
		return client.Token{}, fmt.Errorf("read token from standard input: %w", err)
	}
	return client.NewToken(text)
}

// input returns the content of a file, or of standard input for "-" and "".
// what says what is expected, for whoever sits in front of a terminal.
func (a *app) input(path, what string) ([]byte, error) {
	r, err := a.open(path, what)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	const limit = 1 << 20
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return text, nil
}

func (a *app) open(path, what string) (io.ReadCloser, error) {
	if path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", what, err)
		}
		return f, nil
	}
	if a.tokenFile == "-" {
		return nil, usagef("standard input can't be both the token and the %s: put the token into a file", what)
	}
	if isTerminal(a.in) {
		fmt.Fprintf(a.err, "Reading %s from standard input; end with Ctrl-D.\n", what)
	}
	return io.NopCloser(a.in), nil
}

// isTerminal reports whether a stream is a terminal, or at least a device.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
