package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cmd/cloakroom/importer"
	"cloakroom/cmd/cloakroom/rows"
)

// importFlags are the flags of import.
type importFlags struct {
	key, id, out, format, delimiter, rejects, phoneRegion string
	columns                                               map[string]string
	ignoreUnknown, strict                                 bool
	domain                                                string
	ttl                                                   time.Duration
	batch, parallel                                       int
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import FILE.csv|FILE.ndjson|-",
		Short: "Deposit the rows of a file",
		Long: `Import deposits every row of a CSV file with a header, or of a file with one JSON
object a line. Columns are named like fields; an empty cell is no value.

  cloakroom import people.csv --key customer_no --out map.csv

writes customer_no,pseudonym for every row that is in. Run again, it skips the
rows whose key is in the map already: it changes nothing, and it takes up an
import that was interrupted. Until an import is complete, map.csv.unfinished
stands beside the map; keep both, and keep them secret.

With --id COLUMN the rows bring their pseudonyms, and existing subjects are
replaced. With neither, the server draws pseudonyms, line,pseudonym is written
to --out or standard output, and a second run deposits everybody once more.

A line of NDJSON is {"fields":{"display_name":"…"},"domain":"…","ttl":"…"} and
the member that --key or --id names.

A bad row is reported by line and column, never by content, and the others go
in; the exit code is 1 then. With --strict the file is read first and nothing is
written if a row is bad; what only the server can judge stops the import there.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runImport(c.Context(), args[0], &f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.key, "key", "", "column that names a row; needs --out")
	flags.StringVar(&f.id, "id", "", "column with the pseudonym of a row")
	flags.StringVar(&f.out, "out", "", "file for the pseudonyms, created with mode 0600")
	flags.StringToStringVar(&f.columns, "field", nil, "FIELD=COLUMN: what the file calls a field; may be given several times")
	flags.BoolVar(&f.ignoreUnknown, "ignore-unknown", false, "leave out columns that are no field")
	flags.StringVar(&f.format, "format", "", "csv or ndjson; by default by the name of the file")
	flags.StringVar(&f.delimiter, "delimiter", ",", "what separates cells of CSV; \\t for a tab")
	flags.StringVar(&f.domain, "domain", "", "pseudonymisation domain of the rows")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long the rows are kept, as in 8760h")
	flags.StringVar(&f.phoneRegion, "phone-region", "", "country, as in DE, of phone numbers without a country code; stores them as E.164")
	flags.BoolVar(&f.strict, "strict", false, "write nothing if a row is bad")
	flags.StringVar(&f.rejects, "rejects", "", "file for line,column,reason of every bad row")
	flags.IntVar(&f.batch, "batch", 2000, "most rows in one request")
	flags.IntVar(&f.parallel, "parallel", 4, "requests in flight")
	return a.jsonFlag(c)
}

// check returns every fault of the flags.
func (f *importFlags) check(path string) error {
	var faults []error
	if f.key != "" && f.id != "" {
		faults = append(faults, errors.New("give --key or --id, not both"))
	}
	if f.key != "" && (f.out == "" || f.out == "-") {
		faults = append(faults, errors.New("--key needs --out FILE: the map is what makes a second run change nothing"))
	}
	if f.id != "" && f.out != "" {
		faults = append(faults, errors.New("--out is of no use with --id: the file has the pseudonyms already"))
	}
	if f.strict && path == "-" {
		faults = append(faults, errors.New("--strict reads twice, which standard input can't: name a file"))
	}
	if f.delimiter == `\t` {
		f.delimiter = "\t"
	}
	if len(f.delimiter) != 1 || strings.ContainsAny(f.delimiter, "\"\r\n") {
		faults = append(faults, errors.New("--delimiter: want one character, such as ';' or '\\t'"))
	}
	if f.format == "" {
		f.format = "csv"
		if strings.HasSuffix(path, ".ndjson") || strings.HasSuffix(path, ".jsonl") {
			f.format = "ndjson"
		}
	}
	if f.format != "csv" && f.format != "ndjson" {
		faults = append(faults, errors.New("--format: want csv or ndjson"))
	}
	if f.batch < 1 || f.batch > cloakroom.MaxBatchSubjects {
		faults = append(faults, fmt.Errorf("--batch: want 1 to %d", cloakroom.MaxBatchSubjects))
	}
	if f.parallel < 1 || f.parallel > 64 {
		faults = append(faults, errors.New("--parallel: want 1 to 64"))
	}
	if f.phoneRegion != "" && !knownRegion(f.phoneRegion) {
		faults = append(faults, errors.New("--phone-region: want a country as in DE"))
	}
	return errors.Join(faults...)
}

func (a *app) runImport(ctx context.Context, path string, f *importFlags) error {
	if err := f.check(path); err != nil {
		return usage(err)
	}
	a.hasBar = true
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	schema, err := server.Schema(ctx)
	if err != nil {
		return err
	}
	fields, rowsConfig, err := f.fields(schema)
	if err != nil {
		return usage(err)
	}
	file, err := a.openImport(path, f, rowsConfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.close()
	report, err := newRejects(f.rejects)
	if err != nil {
		return err
	}
	cfg := importer.Config{
		Server: server, Open: file.open, Fields: fields, Key: f.key + f.id,
		Domain: f.domain, BatchRows: f.batch, Parallel: f.parallel, Strict: f.strict, Reject: report.add,
	}
	if f.ttl != 0 {
		cfg.TTL = f.ttl.String()
	}
	closeOut, err := a.importOut(f, &cfg)
	if err != nil {
		return err
	}
	return errors.Join(a.importRun(ctx, cfg, file.size, report), closeOut(), report.close())
}

// importRun runs the import and says what came of it.
func (a *app) importRun(ctx context.Context, cfg importer.Config, size int64, report *rejects) error {
	imp, err := importer.New(cfg)
	if err != nil {
		return err
	}
	began := time.Now()
	stop := a.progress(imp, size)
	summary, err := imp.Run(ctx)
	stop()
	took := time.Since(began)
	report.print(a.err)
	if a.json {
		w := a.out
		if cfg.Out == a.out { // the map goes there
			w = a.err
		}
		if err2 := printJSON(w, summary); err2 != nil {
			return err2
		}
	} else {
		rate := float64(summary.Deposited) / max(took.Seconds(), 1e-9)
		fmt.Fprintf(a.err, "%d rows: %d deposited, %d skipped (in the map already), %d rejected, in %v (%.0f/s)\n",
			summary.Read, summary.Deposited, summary.Skipped, summary.Rejected, took.Round(time.Millisecond), rate)
		if summary.Unknown > 0 {
			fmt.Fprintf(a.err, "%d rows were on their way when it stopped; they may be in or not.\n", summary.Unknown)
		}
	}
	return err
}

// importOut opens the map.
func (a *app) importOut(f *importFlags, cfg *importer.Config) (closeOut func() error, err error) {
	closeOut = func() error { return nil }
	switch {
	case f.key != "":
		cfg.Journal, err = importer.OpenJournal(f.out, f.key, rand.Reader)
	case f.id != "":
	case f.out == "" || f.out == "-":
		cfg.Out = a.out
		fmt.Fprintln(a.err, "Without --key, a second run deposits every row once more.")
	default:
		file, err := os.OpenFile(f.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("create map: %w", err)
		}
		cfg.Out, closeOut = file, file.Close
	}
	if err == nil && cfg.Out != nil {
		_, err = io.WriteString(cfg.Out, "line,pseudonym\n")
	}
	return closeOut, err
}

// fields matches the schema with the flags.
func (f *importFlags) fields(schema client.Schema) ([]importer.Field, rows.Config, error) {
	cfg := rows.Config{Columns: f.columns, Key: f.key + f.id, Comma: f.delimiter[0], IgnoreUnknown: f.ignoreUnknown}
	var fields []importer.Field
	known := map[string]bool{}
	for _, s := range schema.Fields {
		if s.Retired {
			continue
		}
		field := importer.Field{Name: s.Name, Column: s.Name, MaxBytes: s.MaxBytes}
		if column, ok := f.columns[s.Name]; ok {
			field.Column = column
		}
		if s.Type == "phone" && f.phoneRegion != "" {
			field.Normalize = normalizePhone(f.phoneRegion)
		}
		known[s.Name] = true
		fields = append(fields, field)
		cfg.Fields, cfg.JSON = append(cfg.Fields, s.Name), append(cfg.JSON, s.Type == "json")
	}
	var faults []error
	for name := range f.columns {
		if !known[name] {
			faults = append(faults, fmt.Errorf("--field: the schema has no field %s; it has %s", name, strings.Join(cfg.Fields, ", ")))
		}
	}
	return fields, cfg, errors.Join(faults...)
}

// importFile is the file to import.
type importFile struct {
	open  func() (rows.Source, error)
	close func()
	size  int64 // 0 if not known
}

// openImport opens the file and reads its header, so that nothing is created
// for a file that can't be read. The first open of the result goes on there.
func (a *app) openImport(path string, f *importFlags, cfg rows.Config) (*importFile, error) {
	in, err := a.open(path, "rows")
	if err != nil {
		return nil, err
	}
	start := rows.OpenCSV
	if f.format == "ndjson" {
		start = rows.OpenNDJSON
	}
	first, err := start(in, cfg)
	if err != nil {
		in.Close()
		return nil, err
	}
	result := &importFile{close: func() { in.Close() }}
	result.open = func() (rows.Source, error) {
		if source := first; source != nil {
			first = nil
			return source, nil
		}
		seeker, ok := in.(io.Seeker)
		if !ok {
			return nil, errors.New("the file can't be read twice")
		}
		if _, err := seeker.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return start(in, cfg)
	}
	if file, ok := in.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			result.size = info.Size()
		}
	}
	return result, nil
}

// shownRejects is how many bad rows are listed on standard error.
const shownRejects = 20

// rejects keeps what is told about bad rows: the first by line, and all of
// them in a file if one is named.
type rejects struct {
	first []rows.Fault // the lowest lines seen, unordered, at most shownRejects
	count int
	file  *os.File
	line  []byte
	err   error
}

func newRejects(path string) (*rejects, error) {
	r := &rejects{}
	if path == "" {
		return r, nil
	}
	var err error
	if r.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, fmt.Errorf("create rejects: %w", err)
	}
	_, err = r.file.WriteString("line,column,reason\n")
	return r, err
}

// add takes one bad row. The importer calls it for one at a time.
func (r *rejects) add(fault rows.Fault) {
	r.count++
	if r.file != nil && r.err == nil {
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		r.line = fmt.Appendf(r.line[:0], "%d,%s,%s\n", fault.Line, quote(fault.Column), quote(fault.Reason))
		_, r.err = r.file.Write(r.line)
	}
	if len(r.first) < shownRejects {
		r.first = append(r.first, fault)
		return
	}
	last := 0
	for i := range r.first {
		if r.first[i].Line > r.first[last].Line {
			last = i
		}
	}
	if fault.Line < r.first[last].Line {
		r.first[last] = fault
	}
}

// print lists the first bad rows.
func (r *rejects) print(w io.Writer) {
	sortFaults(r.first)
	var b bytes.Buffer
	for i := range r.first {
		fmt.Fprintf(&b, "rejected %s\n", printable(r.first[i].Error()))
	}
	if more := r.count - len(r.first); more > 0 {
		fmt.Fprintf(&b, "… and %d more (all of them: --rejects FILE)\n", more)
	}
	w.Write(b.Bytes())
}

func (r *rejects) close() error {
	if r.file == nil {
		return nil
	}
	if err := errors.Join(r.err, r.file.Close()); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}
