package api

import (
	"errors"
	"time"
)

// Fixed limits on the wire.
const (
	// MaxIndexBytes bounds the Cloakroom-Index header: 64 shards, all numbers at their
	// longest.
	MaxIndexBytes = 1536
	// MaxCursorBytes bounds the cursor of a stream of events, as long as 64
	// shards can make it.
	MaxCursorBytes = 1536
	// MaxTokenBytes bounds a bearer token.
	MaxTokenBytes = 512
	// MaxResolveBytes bounds the body of a resolve: 1000 ids and 64 names,
	// indented.
	MaxResolveBytes = 128 << 10
	// MaxSubjectBody bounds the body of one deposit: 64 KiB of values, every
	// byte escaped, and the names around them.
	MaxSubjectBody = 512 << 10
	// MaxBatchBody bounds the body of a batch deposit. The largest guarded
	// buffer the pool can give bounds it further.
	MaxBatchBody = 16 << 20
	// MaxSchemaBody bounds a schema.
	MaxSchemaBody = 256 << 10
	// MaxDepth bounds how deep arrays and objects of a JSON value nest.
	MaxDepth = 32
	// MaxMembers bounds the members of one object: names are compared with
	// each other, since a table of them would be plaintext on the heap.
	MaxMembers = 128

	// maxDrain is how much of an unwanted body is read so that the connection
	// can be kept: what net/http itself would read.
	maxDrain = 256 << 10
	// bodyRate is the slowest a body may come on average, in bytes per
	// second, once Limits.Body is used up.
	bodyRate = 128 << 10
)

// Limits bound what clients can make a node hold at once. A zero field takes
// the default.
type Limits struct {
	Connections int // open at once, 4096; more are answered 503 and closed
	Requests    int // served at once, 1024; more are answered 503

	Header  time.Duration // from the first byte to the end of a header, TLS handshake included, 5 s
	Body    time.Duration // for a whole body, 10 s, and a second more per 128 KiB that came
	Stall   time.Duration // without a byte of a body, 5 s
	Request time.Duration // for the service, waiting for memory included, 10 s
	Read    time.Duration // for the service to answer a read, 5 s
	Write   time.Duration // for writing an answer, 10 s
	Idle    time.Duration // between two requests, 2 min

	Streams     int           // of events, open at once, 1024; more are answered 503
	StreamsEach int           // of these, of one principal, 64; more are answered 429
	Stream      time.Duration // until a stream ends, to be resumed, 1 h
}

func (l *Limits) fill() {
	setInt := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	setTime := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	setInt(&l.Connections, 4096)
	setInt(&l.Requests, 1024)
	setTime(&l.Header, 5*time.Second)
	setTime(&l.Body, 10*time.Second)
	setTime(&l.Stall, 5*time.Second)
	setTime(&l.Request, 10*time.Second)
	// A shard that lost its leader has another after about 1.2 s (median), and
	// under 2 s: both limits leave room for that, and a page waits no longer.
	setTime(&l.Read, 5*time.Second)
	setTime(&l.Write, 10*time.Second)
	setTime(&l.Idle, 2*time.Minute)
	setInt(&l.Streams, 1024)
	setInt(&l.StreamsEach, 64)
	setTime(&l.Stream, time.Hour)
}

func (l *Limits) check() error {
	var faults []error
	if l.Connections < 1 || l.Requests < 1 || l.Streams < 1 || l.StreamsEach < 1 {
		faults = append(faults, errors.New("limits: connections, requests and streams must be positive"))
	}
	for _, d := range []time.Duration{l.Header, l.Body, l.Stall, l.Request, l.Read, l.Write, l.Idle, l.Stream} {
		if d < time.Millisecond {
			faults = append(faults, errors.New("limits: every time must be at least 1 ms"))
			break
		}
	}
	return errors.Join(faults...)
}
