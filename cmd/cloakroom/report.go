package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cmd/cloakroom/importer"
	"cloakroom/cmd/cloakroom/nodefile"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNotNow = 3
)

// usageError is a fault in how the command was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(err error) error { return &usageError{err} }

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// errReported means that everything has been said already.
var errReported = errors.New("failed")

// report prints an error and what to do about it, and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	if err != errReported {
		fmt.Fprintf(a.err, "cloakroom: %s\n", printable(err.Error()))
		for _, fault := range faultsOf(err) {
			fmt.Fprintf(a.err, "  %s\n", printable(fault))
		}
	}
	if hint := hintOf(err, code); hint != "" {
		fmt.Fprintf(a.err, "%s\n", hint)
	}
	return code
}

func exitCode(err error) int {
	var u *usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	var order *orderError
	if errors.As(err, &order) {
		return order.code
	}
	for _, notNow := range []error{
		errNotSafe, errNowhere,
		cloakroom.ErrSealed, cloakroom.ErrStarting, cloakroom.ErrOverloaded, cloakroom.ErrMemoryFull, cloakroom.ErrUnavailable,
		cloakroom.ErrDirectoryStale, cloakroom.ErrAuditUnavailable, cloakroom.ErrStaleSchema, cloakroom.ErrRate,
	} {
		if errors.Is(err, notNow) {
			return exitNotNow
		}
	}
	return exitFailed
}

// faultsOf lists what does not fit the schema, or is wrong in a file.
func faultsOf(err error) (lines []string) {
	var file nodefile.Faults
	if errors.As(err, &file) {
		return file.Lines()
	}
	var p *client.Problem
	if !errors.As(err, &p) {
		return nil
	}
	for _, f := range p.Faults {
		line := f.Reason
		if f.Field != "" {
			line = f.Field + ": " + line
		}
		if f.Item >= 0 {
			line = fmt.Sprintf("item %d: %s", f.Item, line)
		}
		lines = append(lines, line)
	}
	return lines
}

// hints say what to do next; the first match counts.
var hints = []struct {
	err  error
	hint string
}{
	{errNoDev, "Is it running, with more than one node? Start it with `cloakroom dev --nodes 3`. If its first node is not at that port, name its address with --addr, or the socket with --control."},
	{importer.ErrRejected, "Correct the rows and import the file again; with --key, rows that went in are skipped then."},
	{importer.ErrStrict, "Correct the row and import the file again, or leave --strict out to import the good rows."},
	{cloakroom.ErrUnauthenticated, "Name the file with your token: --token-file FILE or CLOAKROOM_TOKEN_FILE."},
	{cloakroom.ErrPurpose, "Name a purpose that your grant covers: --purpose."},
	{cloakroom.ErrDenied, "Your grant does not cover this, or there is no such domain. Whoever grants access can widen it; `cloakroom dev` prints a token that may do everything there."},
	{cloakroom.ErrNotFound, "Check the id: the subject may have been erased, or may live in another cluster (--addr)."},
	{cloakroom.ErrErased, "An erased id takes no new values; deposit the person under a new one."},
	{cloakroom.ErrVersion, "Somebody changed the subject meanwhile: read it again."},
	{errNotSafe, "Try again until it is; `cloakroom shards list` shows what is missing."},
	{errNowhere, "Add a node and drain again, or ask for no more with --leaders-only; `nodes drain NAME --cancel` ends it."},
	{cloakroom.ErrNoNode, "`cloakroom nodes list` shows the nodes there are."},
	{cloakroom.ErrNoPrincipal, "`cloakroom principals list` shows the principals there are, `cloakroom principals requests` what waits."},
	{cloakroom.ErrFingerprint, "Compare the fingerprint with the one in that node's own log; if it is another, somebody else may have used the join token: remove the node and make a new token."},
	{cloakroom.ErrJoinToken, "Make a new one on a node of the cluster: cloakroom join-token create."},
	{cloakroom.ErrShare, "Each custodian gives a share of their own, of this cluster: try another one."},
	{cloakroom.ErrSealed, "The node has no keys yet: unseal it with `cloakroom unseal`, or admit it if it is a node that starts again late."},
	{cloakroom.ErrDirectoryStale, "The node has not heard of the directory's majority for too long: see that two of three nodes run and reach each other."},
	{cloakroom.ErrStarting, "The node is starting: try again in a few seconds."},
	{cloakroom.ErrMemoryFull, "Give the node more record memory (--memory-limit) or erase subjects."},
	{cloakroom.ErrOutcomeUnknown, "It may or may not have been done. Doing it again is safe for erase and for import --key."},
	{context.Canceled, "Interrupted. An import with --key goes on where it was when you run the same command again."},
}

func hintOf(err error, code int) string {
	var file nodefile.Faults
	if errors.As(err, &file) {
		return "docs/configuration.md describes every key; `cloakroom node check-config` checks a file and does nothing else."
	}
	var start *startError
	if errors.As(err, &start) {
		return start.hint()
	}
	var unreachable *client.UnreachableError
	if errors.As(err, &unreachable) {
		if strings.HasPrefix(unreachable.Host, "unix:") || strings.HasSuffix(unreachable.Host, ":8201") {
			return "Is the node running there (cloakroom node run)? Otherwise name the address of its operator listener: --addr or CLOAKROOM_OPERATOR_ADDR."
		}
		return "Is the server running there? Start one with `cloakroom dev`, or name another address: --addr or CLOAKROOM_ADDR."
	}
	var p *client.Problem
	if errors.As(err, &p) && p.Name() == "no-route" {
		return "That server has no such call. Orders to a cluster go to the operator listener of a node, port 8201 unless its configuration says otherwise: --addr or CLOAKROOM_OPERATOR_ADDR."
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	var stranger *client.FingerprintError
	if errors.As(err, &stranger) {
		return fingerprintHint(stranger)
	}
	switch code {
	case exitUsage:
		return "Run the command with --help to see how it is used."
	case exitNotNow:
		return "Nothing was done: try again later."
	}
	return ""
}

// fingerprintHint says what to do about a server that is not recognised.
func fingerprintHint(e *client.FingerprintError) string {
	if e.Want == "" {
		return "Nothing was sent. Compare that fingerprint with the one that `node init` printed, or that the node's log shows; if they are the same, give it once: --fingerprint " + e.Node
	}
	return "Nothing was sent. Somebody may sit in between. If the cluster was made anew at this address, give its new fingerprint once with --fingerprint, as `node init` printed it."
}

// printable makes a text that came from elsewhere safe for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}
