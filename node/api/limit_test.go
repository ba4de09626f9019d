package api

import (
	"bufio"
	"io"
	"testing"
)

// Limits of a running front door change: what is over them goes on, what comes
// next is turned away.
func TestLimitsChange(t *testing.T) {
	f := start(t, &fakeService{})
	c := f.dial()
	r := bufio.NewReader(c)
	ask := func() answer {
		t.Helper()
		if _, err := io.WriteString(c, request("GET", "/livez", "")); err != nil {
			t.Fatal(err)
		}
		return readAnswer(t, r, "GET")
	}
	if a := ask(); a.status != 200 {
		t.Fatalf("before: %d", a.status)
	}
	if err := f.server.Limit(Limits{Connections: 1, Requests: 2, Streams: 1, StreamsEach: 1}); err != nil {
		t.Fatal(err)
	}
	if a := ask(); a.status != 200 {
		t.Errorf("on the connection that was open: %d", a.status)
	}
	if a := f.raw(request("GET", "/livez", "")); a.status != 503 {
		t.Errorf("on one too many: %d", a.status)
	}
	if err := f.server.streams.enter("a"); err != nil {
		t.Error(err)
	}
	if err := f.server.streams.enter("b"); err == nil {
		t.Error("a second stream was let in")
	}
	f.server.streams.leave("a")
	if err := f.server.Limit(Limits{Connections: -1}); err == nil || f.server.places != 1 {
		t.Errorf("a limit below zero: %v, %d places", err, f.server.places)
	}
}

// After Farewell every answer is the last of its connection, and new ones are
// still served.
func TestFarewell(t *testing.T) {
	f := start(t, &fakeService{})
	if a := f.raw(request("GET", "/livez", "")); a.close {
		t.Fatal("closed before")
	}
	f.server.Farewell()
	if a := f.raw(request("GET", "/livez", "")); a.status != 200 || !a.close {
		t.Errorf("after: %d, close %v", a.status, a.close)
	}
}
