// Package importer deposits the rows of a file in batches. It owns the way
// from rows to request bodies, several of them in flight, and the three ways a
// row gets its pseudonym: the server draws it, the file brings it, or it
// belongs to a key and stands in a [Journal].
//
// A row that can't be taken, by the reader's or the server's judgement, is
// reported by line and column name and never by content; the others go in. No
// value leaves this package but in a request.
//
// An [Importer] runs once.
package importer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cmd/cloakroom/rows"
)

// Depositor sends one batch; *client.Client does.
type Depositor interface {
	DepositBatchJSON(ctx context.Context, idempotencyKey string, body []byte, n int, each func(i int, d client.Deposited)) error
}

// Field is one field of the schema, as far as an import cares.
type Field struct {
	Name     string
	Column   string // what the file calls it
	MaxBytes int    // of a value; 0: the server decides
	// Normalize, if set, appends what is to be stored for a value to dst, or
	// says false when the value is none.
	Normalize func(dst, value []byte) ([]byte, bool)
}

// Config says what to import and how. Server, Open and Fields must be set.
type Config struct {
	Server Depositor
	// Open returns the rows from the beginning; a strict import opens twice.
	Open   func() (rows.Source, error)
	Fields []Field
	// Key is the column that names a row, for messages. With Journal it is a
	// key, without it is the pseudonym. "" lets the server draw pseudonyms.
	Key     string
	Journal *Journal
	// Out gets line,pseudonym of every deposited row when Key is "".
	Out io.Writer

	Domain, TTL string // of every row that brings none; "" leaves them out

	BatchRows  int // 2000, at most cloakroom.MaxBatchSubjects
	BatchBytes int // of a body, 448 KiB; halved when the server says 413
	Parallel   int // batches in flight, 4

	// Strict reads the whole file first and writes nothing if a row is bad;
	// later it stops at the first row that the server refuses.
	Strict bool
	// Reject gets every row that is not taken, one at a time, in no
	// particular order.
	Reject func(rows.Fault)

	Rand  io.Reader
	Sleep func(ctx context.Context, d time.Duration) error
}

// Summary is what an import did, in rows.
type Summary struct {
	Read      int64 `json:"read"`
	Deposited int64 `json:"deposited"`
	Skipped   int64 `json:"skipped"` // their key stood in the map already
	Rejected  int64 `json:"rejected"`
	Unknown   int64 `json:"unknown"` // neither acknowledged nor refused when it stopped
}

// ErrRejected means that the import is complete but for rejected rows.
var ErrRejected = errors.New("some rows were rejected")

// ErrStrict means that a bad row stopped a strict import.
var ErrStrict = errors.New("a row was rejected and the import is strict")

// Importer is one import.
type Importer struct {
	cfg   Config
	names [][]byte // `"display_name":` for every field
	seen  map[cloakroom.Pseudonym]struct{}
	text  []byte // normalized value

	limit  atomic.Int64 // present size of a body
	failed context.CancelCauseFunc

	read, deposited, skipped, rejected, sent atomic.Int64
	bytes                                    atomic.Int64
	begun                                    atomic.Bool // something was sent

	rejectMu sync.Mutex // of Config.Reject
	outMu    sync.Mutex // of Config.Out
}

// New checks the configuration.
func New(cfg Config) (*Importer, error) {
	cfg.BatchRows = cmpOr(cfg.BatchRows, 2000)
	cfg.BatchBytes = cmpOr(cfg.BatchBytes, 448<<10)
	cfg.Parallel = cmpOr(cfg.Parallel, 4)
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Reject == nil {
		cfg.Reject = func(rows.Fault) {}
	}
	var faults []error
	if cfg.Server == nil || cfg.Open == nil || len(cfg.Fields) == 0 {
		faults = append(faults, errors.New("server, file and fields must be given"))
	}
	if cfg.BatchRows < 1 || cfg.BatchRows > cloakroom.MaxBatchSubjects {
		faults = append(faults, fmt.Errorf("a batch has 1 to %d rows", cloakroom.MaxBatchSubjects))
	}
	if cfg.Parallel < 1 || cfg.Parallel > 64 {
		faults = append(faults, errors.New("1 to 64 batches can be in flight"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("configure import: %w", err)
	}
	imp := &Importer{cfg: cfg}
	imp.limit.Store(int64(cfg.BatchBytes))
	for _, f := range cfg.Fields {
		imp.names = append(imp.names, append(appendQuoted(nil, []byte(f.Name)), ':'))
	}
	return imp, nil
}

func cmpOr(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Progress returns how many rows and how many bytes of the file are dealt
// with. It may be called while Run runs.
func (imp *Importer) Progress() (rows, bytes int64) {
	return imp.deposited.Load() + imp.skipped.Load() + imp.rejected.Load(), imp.bytes.Load()
}

// Run imports. When ctx ends it sends nothing new and waits for what is in
// flight. The error is ErrRejected or ErrStrict for bad rows, the cause of ctx
// when it ended, or what made it impossible to go on.
//
// The journal, if any, is finished: its seed is removed unless an outcome is
// unknown.
func (imp *Importer) Run(ctx context.Context) (Summary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	imp.failed = cancel
	err := imp.run(ctx)
	summary := Summary{
		Read: imp.read.Load(), Deposited: imp.deposited.Load(), Skipped: imp.skipped.Load(), Rejected: imp.rejected.Load(),
	}
	summary.Unknown = imp.sent.Load()
	complete := err == nil
	if err == nil && summary.Rejected > 0 {
		err = ErrRejected
	}
	if imp.cfg.Journal != nil {
		unused := !imp.begun.Load() && !imp.cfg.Journal.resumed
		if closed := imp.cfg.Journal.finish(complete || unused); closed != nil {
			err = errors.Join(err, closed)
		}
	}
	return summary, err
}

func (imp *Importer) run(ctx context.Context) error {
	if imp.cfg.Strict {
		if err := imp.rehearse(ctx); err != nil {
			return err
		}
	}
	source, err := imp.cfg.Open()
	if err != nil {
		return err
	}
	imp.forgetKeys()
	work := make(chan *batch)
	free := make(chan *batch, 2*imp.cfg.Parallel)
	for range imp.cfg.Parallel + 1 {
		free <- &batch{}
	}
	var senders sync.WaitGroup
	for range imp.cfg.Parallel {
		senders.Go(func() { // ends when work is closed, below
			s := sender{imp: imp}
			for b := range work {
				s.deliver(ctx, b)
				free <- b
			}
		})
	}
	err = imp.readAll(ctx, source, free, work)
	close(work)
	senders.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// rehearse reads the whole file as a strict import does before it writes.
func (imp *Importer) rehearse(ctx context.Context) error {
	source, err := imp.cfg.Open()
	if err != nil {
		return err
	}
	imp.forgetKeys()
	var row rows.Row
	b := &batch{}
	for {
		err := imp.next(source, &row, b)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		b.reset()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	bad := imp.rejected.Load() > 0
	imp.skipped.Store(0)
	if bad {
		return ErrStrict
	}
	imp.read.Store(0)
	return nil
}

// forgetKeys starts looking for repeated keys from the beginning.
func (imp *Importer) forgetKeys() { imp.seen = map[cloakroom.Pseudonym]struct{}{} }

// readAll cuts the rows into batches and hands them to the senders.
func (imp *Importer) readAll(ctx context.Context, source rows.Source, free, work chan *batch) error {
	var row rows.Row
	b := <-free
	from := source.Offset()
	for n := 0; ; n++ {
		before := len(b.items)
		err := imp.next(source, &row, b)
		if err != nil && err != io.EOF {
			return err
		}
		if len(b.items) == 0 && (n%1024 == 0 || err == io.EOF) {
			imp.bytes.Add(source.Offset() - from)
			from = source.Offset()
		}
		full := len(b.items) >= imp.cfg.BatchRows || int64(len(b.body)) >= imp.limit.Load()*15/16
		if full && len(b.items) > before || err == io.EOF && len(b.items) > 0 {
			b.bytes, from = source.Offset()-from, source.Offset()
			select {
			case work <- b:
			case <-ctx.Done():
				return nil
			}
			b = <-free
			b.reset()
		}
		if err == io.EOF || n%256 == 0 && ctx.Err() != nil {
			return nil
		}
	}
}

// next reads one row into the batch. A row that is skipped or rejected leaves
// the batch as it is.
func (imp *Importer) next(source rows.Source, row *rows.Row, b *batch) error {
	err := source.Next(row)
	fault, bad := err.(*rows.Fault)
	switch {
	case err == nil:
		fault = imp.admit(row, b)
	case !bad:
		return err
	}
	imp.read.Add(1)
	if fault != nil {
		imp.reject(*fault)
	}
	return nil
}

// reject reports a row that is not taken.
func (imp *Importer) reject(fault rows.Fault) {
	imp.rejected.Add(1)
	imp.rejectMu.Lock()
	defer imp.rejectMu.Unlock()
	imp.cfg.Reject(fault)
}

// column returns what the file calls a field.
func (imp *Importer) column(field string) string {
	i := slices.IndexFunc(imp.cfg.Fields, func(f Field) bool { return f.Name == field })
	if i < 0 {
		return ""
	}
	return imp.cfg.Fields[i].Column
}
