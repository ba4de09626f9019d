package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cmd/cloakroom/rows"
)

// maxAttempts bounds how often one body is sent because single items of it
// could not be done; what concerns the whole request, the client retries.
const maxAttempts = 6

// sender delivers batches, one after the other.
type sender struct {
	imp     *Importer
	scratch []byte
	out     []byte // rows of the map
}

// deliver sends a batch until every row of it is deposited or rejected, or
// stops the import. Once begun, it does not stop when ctx ends: what is in
// flight may have been done, and the map should say so.
func (s *sender) deliver(ctx context.Context, b *batch) {
	if ctx.Err() != nil {
		return
	}
	s.imp.begun.Store(true)
	s.imp.sent.Add(int64(len(b.items)))
	if err := s.send(context.WithoutCancel(ctx), b, b.items); err != nil {
		s.imp.failed(err)
		return
	}
	s.imp.bytes.Add(b.bytes)
}

// send sends these items of a batch, in pieces if the server wants smaller
// bodies, and without those it refuses.
func (s *sender) send(ctx context.Context, b *batch, items []item) error {
	for len(items) > 0 {
		key, err := s.newKey()
		if err != nil {
			return err
		}
		var body []byte
		body, s.scratch = b.assemble(items, s.scratch)
		err = s.post(ctx, key, body, b, items)
		var p *client.Problem
		switch {
		case err == nil:
			return nil
		case errors.Is(err, cloakroom.ErrTooLarge) && len(items) == 1:
			return s.refuse(&items[0], "", "larger than the server takes")
		case errors.Is(err, cloakroom.ErrTooLarge):
			s.shrink(len(body))
			half := len(items) / 2
			if err := s.send(ctx, b, items[:half]); err != nil {
				return err
			}
			items = items[half:]
		case errors.As(err, &p) && len(p.Faults) > 0:
			left, err2 := s.refuseFaulty(items, p.Faults)
			if err2 != nil {
				return err2
			}
			if len(left) == len(items) { // it named none of ours
				return err
			}
			items = left
		default:
			return err
		}
	}
	return nil
}

// shrink makes later bodies at most half as large as one that was too large.
func (s *sender) shrink(size int) {
	half := max(int64(size/2), 1)
	for {
		limit := s.imp.limit.Load()
		if limit <= half || s.imp.limit.CompareAndSwap(limit, half) {
			return
		}
	}
}

// refuseFaulty rejects the items that do not fit the schema and returns the
// others.
func (s *sender) refuseFaulty(items []item, faults []client.Fault) ([]item, error) {
	bad := make(map[int]bool, len(faults))
	for _, f := range faults {
		if f.Item < 0 || f.Item >= len(items) || bad[f.Item] {
			continue
		}
		bad[f.Item] = true
		if err := s.refuse(&items[f.Item], s.imp.column(f.Field), printable(f.Reason)); err != nil {
			return nil, err
		}
	}
	left := make([]item, 0, len(items)-len(bad))
	for i, it := range items {
		if !bad[i] {
			left = append(left, it)
		}
	}
	return left, nil
}

// refuse rejects one item, which stops a strict import.
func (s *sender) refuse(it *item, column, reason string) error {
	s.imp.sent.Add(-1)
	s.imp.reject(rows.Fault{Line: it.line, Column: column, Reason: reason})
	if s.imp.cfg.Strict {
		return ErrStrict
	}
	return nil
}

// post sends one body, and the same body under the same key again while
// single items of it could not be done: those that were done are only replayed
// then, whoever drew their pseudonym.
func (s *sender) post(ctx context.Context, key string, body []byte, b *batch, items []item) error {
	for i := range items {
		items[i].settled = false
	}
	for attempt := 1; ; attempt++ {
		var later, fatal error
		s.out = s.out[:0]
		done := 0
		err := s.imp.cfg.Server.DepositBatchJSON(ctx, key, body, len(items), func(i int, d client.Deposited) {
			it := &items[i]
			switch {
			case it.settled:
				return
			case d.Err == nil || s.ours(d.Err):
				it.settled = true
				done++
				s.note(b, it, d.ID)
			case transient(d.Err):
				later = d.Err
			default:
				it.settled = true
				if err := s.refuse(it, "", printable(reasonOf(d.Err))); err != nil {
					fatal = err
				}
			}
		})
		s.imp.deposited.Add(int64(done))
		s.imp.sent.Add(-int64(done))
		if err := errors.Join(err, fatal, s.writeOut()); err != nil || later == nil {
			return err
		}
		if attempt == maxAttempts {
			return fmt.Errorf("deposit batch: %w", later)
		}
		if err := s.imp.cfg.Sleep(ctx, 100*time.Millisecond<<attempt); err != nil {
			return err
		}
	}
}

// ours reports whether a conflict can only be with an earlier attempt of our
// own: nobody else can know a pseudonym that comes from the journal's seed.
func (s *sender) ours(err error) bool {
	return s.imp.cfg.Journal != nil && errors.Is(err, cloakroom.ErrConflict)
}

// transient reports whether an item may be tried again.
func transient(err error) bool {
	var p *client.Problem
	return errors.As(err, &p) &&
		(p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout || p.Status == http.StatusTooManyRequests)
}

// reasonOf returns what a problem says, without the request id.
func reasonOf(err error) string {
	var p *client.Problem
	if errors.As(err, &p) && p.Title != "" {
		return p.Title
	}
	return err.Error()
}

// printable makes one short line of a text that came from the server.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}

// note puts what the map says about a deposited row into out.
func (s *sender) note(b *batch, it *item, id cloakroom.Pseudonym) {
	switch {
	case s.imp.cfg.Journal != nil:
		s.out = appendCell(s.out, b.keys[it.keyFrom:it.key])
	case s.imp.cfg.Key == "" && s.imp.cfg.Out != nil:
		s.out = strconv.AppendInt(s.out, int64(it.line), 10)
	default:
		return
	}
	s.out = append(s.out, ',')
	s.out = id.AppendText(s.out)
	s.out = append(s.out, '\n')
}

// writeOut writes out to the map.
func (s *sender) writeOut() error {
	if len(s.out) == 0 {
		return nil
	}
	var w io.Writer = s.imp.cfg.Journal
	if s.imp.cfg.Journal == nil {
		w = s.imp.cfg.Out
		s.imp.outMu.Lock()
		defer s.imp.outMu.Unlock()
	}
	if _, err := w.Write(s.out); err != nil {
		return fmt.Errorf("write map: %w", err)
	}
	return nil
}

func (s *sender) newKey() (string, error) {
	var id cloakroom.Pseudonym
	if _, err := io.ReadFull(s.imp.cfg.Rand, id[:]); err != nil {
		return "", fmt.Errorf("draw idempotency key: %w", err)
	}
	id.SetRandomForm()
	return id.String(), nil
}
