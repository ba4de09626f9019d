package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloakroom"
)

// Event is one message of a stream of changes.
type Event struct {
	// Reset: changes may have been missed. Whatever the caller keeps may be old.
	Reset bool
	// Erased are subjects whose values are gone, Changed those whose values are
	// others now. New subjects are in neither. One may come again.
	Erased, Changed []cloakroom.Pseudonym
	// Known is a moment on this machine's clock: every erasure that was
	// acknowledged before, on any node, has been told, and every other change
	// that was acknowledged the length of a lease before (3 s). Zero: nothing
	// is known yet.
	Known time.Time
	// Cursor is where to go on after this event.
	Cursor string

	lease time.Duration // how old a read can be; with the first message of a connection
	hello bool          // the message is nothing else
}

// Watch says where a stream of changes begins and when it is given up.
type Watch struct {
	// Cursor is that of the last [Event] seen; "" begins with the present, and
	// with a Reset.
	Cursor string
	// Silence is after which time without a word a connection is given up for
	// another; 5 s, at least 2 s. A server says something every second.
	Silence time.Duration
}

const (
	defaultSilence = 5 * time.Second
	minSilence     = 2 * time.Second

	// A connection that ended is followed by another, after a pause that grows
	// up to maxPause while none comes about.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Events calls handle for every event, in order, until ctx ends, handle returns
// an error, or the server refuses for good: then it returns why. It connects
// again by itself, and goes on behind the last event.
//
// The caller's grant needs the action "events"; it is told of the domains of
// the grant only.
func (c *Client) Events(ctx context.Context, w Watch, handle func(Event) error) error {
	const verb = "watch events"
	if w.Silence == 0 {
		w.Silence = defaultSilence
	}
	if w.Silence < minSilence {
		return fmt.Errorf("%s: a silence of less than %v ends streams that are well: %w", verb, minSilence, cloakroom.ErrMalformed)
	}
	err := c.watch(ctx, w, func(e *Event) error {
		if e.hello {
			return nil
		}
		return handle(*e)
	})
	return fmt.Errorf("%s: %w", verb, err)
}

// handled marks an error of the caller's handler.
type handled struct{ error }

func (h handled) Unwrap() error { return h.error }

// watch follows the stream over as many connections as it takes. It never
// returns nil.
func (c *Client) watch(ctx context.Context, w Watch, handle func(*Event) error) error {
	pause, own := firstPause, false // own: the cursor is one this call was given
	for {
		heard := false
		err := c.follow(ctx, &w, func(e *Event) error {
			heard, own = true, own || e.Cursor != ""
			if err := handle(e); err != nil {
				return handled{err}
			}
			return nil
		})
		var h handled
		var p *Problem
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &h):
			return h.error
		case !errors.As(err, &p) || p.Status == http.StatusTooManyRequests || p.Status >= 500:
		case p.Status == http.StatusBadRequest && own:
			w.Cursor, own = "", false // of a cluster that is gone
		default:
			return err
		}
		if heard {
			pause = firstPause
		}
		if c.cfg.Sleep(ctx, pause+c.jitter(pause)) != nil {
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxPause)
	}
}

// errSilent ends a connection on which nothing came for too long.
var errSilent = errors.New("the server fell silent")

// follow reads one connection to its end.
func (c *Client) follow(ctx context.Context, w *Watch, handle func(*Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begun := time.Now() // before the server can begin to count
	silence := time.AfterFunc(c.cfg.Timeout, func() { cancel(errSilent) })
	defer silence.Stop()
	req, err := c.request(ctx, &call{method: http.MethodGet, path: "/v1/events", header: [][2]string{
		{"Last-Event-ID", w.Cursor}, {"Accept", "text/event-stream"},
	}}, nil)
	if err != nil {
		return err
	}
	resp, err := c.cfg.Transport.RoundTrip(req)
	if err != nil {
		return c.transportError(ctx, c.cfg.Timeout, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := readReply(resp)
		if err != nil {
			return c.transportError(ctx, c.cfg.Timeout, err)
		}
		return parseProblem(resp.StatusCode, resp.Header, body, time.Now())
	}
	stream := newEventReader(resp.Body, func() { silence.Reset(w.Silence) })
	for {
		m, err := stream.next()
		if err != nil {
			return c.transportError(ctx, w.Silence, err)
		}
		e, err := m.event(begun, time.Now())
		if err != nil {
			return err
		}
		if e.Cursor == "" {
			e.Cursor = w.Cursor
		}
		w.Cursor = e.Cursor
		if err := handle(e); err != nil {
			return err
		}
	}
}
