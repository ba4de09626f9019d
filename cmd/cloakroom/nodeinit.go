package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cloakroom/cmd/cloakroom/nodefile"
	"cloakroom/node"
)

// initFlags are the flags of node init.
type initFlags struct {
	config, out, schema    string
	operator, auditor      string
	custodians, access     []string
	shares, threshold      int
	singlePerson, printing bool
}

func (a *app) nodeInit() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init",
		Short: "Found a cluster: make its first node's folder, the shares and the first tokens",
		Long: `Init founds a cluster, whose first node is the one of --config. It splits the
recovery secret into shares, so many of which (--threshold) bring a cluster back
that stood still as a whole; it makes the tokens of the first roles; and it
makes the node's folder. 'cloakroom node run' comes next.

Each share, and each token, is encrypted to somebody (age, age-encryption.org):

  cloakroom node init --config n1.yaml --custodian age1… --custodian age1… --custodian age1… --threshold 2 --out init/

A custodian opens a share with 'age -d -i KEY FILE' and brings it with 'cloakroom
unseal'. The tokens of operator, access-1, access-2 and auditor go to whom
--operator, --access (twice) and --auditor name; without, to a custodian each,
who passes them on. Nobody should hold two of them.

To try it out, one person can do it all; status says so then:

  cloakroom node init --config n1.yaml --single-person --print-secrets --out init/`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.runInit(&f) },
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.custodians, "custodian", nil, "age recipient of a share; once for each custodian")
	flags.IntVar(&f.threshold, "threshold", 0, "how many shares it takes; a majority if not given, 2 at least")
	flags.StringVar(&f.out, "out", "", "new folder for the encrypted files, or with --print-secrets for files in clear")
	flags.StringVar(&f.operator, "operator", "", "age recipient of the operator's token")
	flags.StringArrayVar(&f.access, "access", nil, "age recipient of an access token; twice")
	flags.StringVar(&f.auditor, "auditor", "", "age recipient of the auditor's token")
	flags.StringVar(&f.schema, "schema", "", "file with the fields to begin with, as 'schema apply' reads it; display_name, email and others if not given")
	flags.BoolVar(&f.singlePerson, "single-person", false, "one person may do everything, nothing needs a second one")
	flags.BoolVar(&f.printing, "print-secrets", false, "print shares and tokens in clear instead, or with --out write them into files")
	flags.IntVar(&f.shares, "shares", 0, "how many shares to print; 3 if not given, 1 for a single person")
	return a.jsonFlag(configFlag(c, &f.config))
}

func (a *app) runInit(f *initFlags) error {
	file, err := readConfig(f.config)
	if err != nil {
		return err
	}
	cfg, err := a.initConfig(f, file)
	if err != nil {
		return err
	}
	made, err := node.Init(cfg)
	if err != nil {
		return usage(err)
	}
	defer made.Close() //nolint:errcheck // the process ends
	report := newInitReport(made)
	if f.out != "" {
		report.Out = f.out
	}
	if f.out != "" && f.printing {
		if err := report.writeOut(); err != nil {
			return fmt.Errorf("%w (the cluster is not usable without these: remove %s and found it again)", err, file.Node.Data)
		}
	}
	if a.json {
		return printJSON(a.out, report.json())
	}
	return a.printInit(report, f.config)
}

// initConfig makes a configuration of the flags, or tells all that is wrong
// with them.
func (a *app) initConfig(f *initFlags, file *nodefile.File) (node.InitConfig, error) {
	cfg := node.InitConfig{
		Folder: file.Node.Data, Name: file.Node.Name, Shards: file.Cluster.Shards,
		Custodians: f.custodians, Shares: f.shares, Threshold: f.threshold, SinglePerson: f.singlePerson,
		Operator: f.operator, Access: f.access, Auditor: f.auditor, KeepDumpable: a.keepDumpable,
	}
	cfg.Memory.Limit = 1 << 20
	cfg.Settings.Replication = file.Cluster.Replication
	cfg.Settings.RecoveryMode = file.Recovery.Mode
	cfg.Settings.DeadAfterSec = uint32(file.Cluster.DeadAfter.Seconds())
	cfg.Settings.HandoverSec = uint32(file.Cluster.HandoverWindow.Seconds())
	var faults []error
	switch {
	case len(f.custodians) == 0 && !f.printing:
		faults = append(faults, errors.New("nobody would have the shares: name the custodians with --custodian, or say --print-secrets"))
	case len(f.custodians) > 0 && f.printing:
		faults = append(faults, errors.New("--print-secrets and --custodian: shares go to one place or the other, not to both"))
	}
	if f.schema != "" {
		text, err := a.input(f.schema, "schema")
		if err == nil {
			cfg.Schema, err = node.ParseSchema(text)
		}
		faults = append(faults, err)
	}
	if f.out != "" {
		faults = append(faults, checkEmpty(f.out))
	}
	if f.out != "" && !f.printing {
		cfg.Deliver = func(_, _ string, files []node.Delivery) error { return writeDeliveries(f.out, files) }
	}
	if err := errors.Join(faults...); err != nil {
		return cfg, usage(err)
	}
	return cfg, nil
}

// checkEmpty returns an error if there is something in the folder already:
// files of another cluster would be taken for those of this one.
func checkEmpty(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = errors.New("it is not empty")
	}
	if err != nil {
		return fmt.Errorf("--out %s: %w", folder, err)
	}
	return nil
}

// writeDeliveries writes the encrypted files, and is sure that they are on disk.
func writeDeliveries(folder string, files []node.Delivery) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for _, f := range files {
		if err := writeSynced(filepath.Join(folder, f.Name), f.Data); err != nil {
			return err
		}
	}
	return syncFolder(folder)
}

func writeSynced(path string, data []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	_, err = out.Write(data)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// initReport is what init says. Its secrets are text: this process prints them
// and ends.
type initReport struct {
	Cluster, Fingerprint string
	Recovery             string // fingerprint of the shares
	Threshold, Count     int
	Shares               []string
	Tokens               map[string]string // by principal
	Out                  string
	Files                []node.Delivery
	clear                bool // they are not encrypted
}

func newInitReport(made *node.Initialised) *initReport {
	r := &initReport{
		Cluster: made.Cluster, Fingerprint: made.Fingerprint, Recovery: made.Recovery,
		Threshold: made.Threshold, Count: made.Count, Tokens: map[string]string{}, Files: made.Files,
	}
	for _, s := range made.Shares {
		s.Use(func(b []byte) { r.Shares = append(r.Shares, strings.Clone(string(b))) })
	}
	for _, t := range made.Tokens {
		t.Token.Use(func(b []byte) { r.Tokens[t.Principal] = strings.Clone(string(b)) })
	}
	return r
}

// writeOut writes the secrets into files of their own instead of showing them.
func (r *initReport) writeOut() error {
	if err := os.MkdirAll(r.Out, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	write := func(name, who, what, secret string) error {
		r.Files = append(r.Files, node.Delivery{Name: name, For: who, What: what})
		return writeSynced(filepath.Join(r.Out, name), []byte(secret+"\n"))
	}
	var faults []error
	for i, share := range r.Shares {
		faults = append(faults, write(fmt.Sprintf("share-%d", i+1), "a custodian", "a share, to unseal the cluster with", share))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tokens)) {
		faults = append(faults, write(name+".token", name, "the token of "+name, r.Tokens[name]))
	}
	r.Shares, r.Tokens, r.clear = nil, nil, true
	return errors.Join(append(faults, syncFolder(r.Out))...)
}

// json is the report for programs.
func (r *initReport) json() map[string]any {
	m := map[string]any{
		"cluster_id": r.Cluster, "fingerprint": r.Fingerprint, "recovery": r.Recovery, "threshold": r.Threshold,
	}
	if len(r.Shares) > 0 {
		m["shares"] = r.Shares
	}
	for name, token := range r.Tokens {
		m[strings.ReplaceAll(name, "-", "_")+"_token"] = token
	}
	files := []map[string]string{}
	for _, f := range r.Files {
		files = append(files, map[string]string{"file": filepath.Join(r.Out, f.Name), "for": f.For, "what": f.What})
	}
	if len(files) > 0 {
		m["files"] = files
	}
	return m
}

// printInit is the report for people.
func (a *app) printInit(r *initReport, config string) error {
	fmt.Fprintf(a.out, "cluster %s\nfingerprint %s\n", r.Cluster, r.Fingerprint)
	for i, s := range r.Shares {
		fmt.Fprintf(a.out, "share %d %s\n", i+1, s)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tokens)) {
		fmt.Fprintf(a.out, "token %s %s\n", name, r.Tokens[name])
	}
	rows := [][]string{{"FILE", "FOR", "WHAT"}}
	for _, f := range r.Files {
		rows = append(rows, []string{filepath.Join(r.Out, f.Name), f.For, f.What})
	}
	if len(rows) > 1 {
		fmt.Fprintln(a.out)
		if err := table(a.out, rows); err != nil {
			return err
		}
	}
	where := "Send each file to the one it is for, then remove it here."
	if r.clear {
		where = "The files are in clear. Keep shares and tokens in different places: they are nowhere else."
	}
	if len(r.Shares) > 0 {
		where = "Keep shares and tokens now, in different places: they are nowhere else."
	}
	_, err := fmt.Fprintf(a.out, `
%s
Any %d of %d shares bring the cluster back after all of it stood still; with fewer
everything is lost. The fingerprint is how this node is recognised at the first
contact. Next:

  cloakroom node run --config %s
`, where, r.Threshold, r.Count, printable(config))
	return err
}
