package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// maxEventLine bounds one line of a stream, and the data of one event, in bytes.
const maxEventLine = 1 << 20

// eventReader reads server-sent events (HTML Living Standard, 9.2), as far as
// the server uses the format: lines end in \n, and an event has one line of
// data.
type eventReader struct {
	lines *bufio.Scanner
	heard func() // is called for every line
}

func newEventReader(r io.Reader, heard func()) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxEventLine)
	return &eventReader{lines, heard}
}

// message is one event as it came.
type message struct {
	name, id string
	data     []byte // dies with the next one
}

// next returns the next event, io.EOF after the last. An event that is cut off
// by the end of the stream is none.
func (r *eventReader) next() (message, error) {
	var m message
	for r.lines.Scan() {
		r.heard()
		line := r.lines.Bytes()
		if len(line) == 0 {
			if m.name != "" {
				return m, nil
			}
			m = message{}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			m.name = string(value)
		case "id":
			m.id = string(value)
		case "data":
			if len(m.data)+len(value) > maxEventLine {
				return message{}, errReply
			}
			m.data = append(m.data, value...)
		}
	}
	if err := r.lines.Err(); err != nil {
		return message{}, err
	}
	return message{}, io.EOF
}

// event turns a message into what a caller is told. begun is from before the
// request was sent, now when the message was read. It refuses what a connection
// says over which this machine slept.
func (m *message) event(begun, now time.Time) (*Event, error) {
	elapsed, byWall := now.Sub(begun), now.Round(0).Sub(begun.Round(0))
	if byWall-elapsed > maxParted {
		return nil, errSlept
	}
	var data struct {
		Erased  []string `json:"erased"`
		Changed []string `json:"changed"`
		At      *int64   `json:"at_ms"`
		Lease   int64    `json:"lease_ms"`
	}
	if json.Unmarshal(m.data, &data) != nil {
		return nil, errReply
	}
	e := &Event{Cursor: m.id, Reset: m.name == "reset", hello: m.name == "hello"}
	var err1, err2 error
	e.Erased, err1 = appendIDs(nil, data.Erased)
	e.Changed, err2 = appendIDs(nil, data.Changed)
	if err1 != nil || err2 != nil || data.Lease < 0 || data.Lease > maxLease.Milliseconds() {
		return nil, errReply
	}
	e.lease = time.Duration(data.Lease) * time.Millisecond
	if data.At != nil {
		e.Known = now.Add(-ageOf(elapsed, byWall, time.Duration(*data.At)*time.Millisecond))
	}
	return e, nil
}

// maxLease bounds what a server may say about the age of its reads.
const maxLease = time.Hour

// maxParted is how far this machine's clocks may part on one connection. Words
// that were waiting while it slept would pass for what the server says now.
const maxParted = time.Second

// errSlept ends a connection for another, whose times begin anew.
var errSlept = errors.New("this machine slept, or its clock was set")

// ageOf turns a server's "at" since the stream began into how old its word is,
// elapsed, or byWall by the wall clock, after the request was sent. The stream
// began there after that, so the word is no older, however long it was on its
// way. It is no younger than nothing either, which bounds what clocks of
// different rates do.
func ageOf(elapsed, byWall, at time.Duration) time.Duration {
	return max(elapsed-at, byWall-at, 0)
}
