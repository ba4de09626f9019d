package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/client/clienttest"
	"cloakroom/cmd/cloakroom/importer"
	"cloakroom/internal/people"
)

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		hint string
	}{
		{nil, 0, ""},
		{usagef("wrong: %w", cloakroom.ErrMalformedID), 2, "--help"},
		{cloakroom.ErrSealed, 3, "unseal"},
		{cloakroom.ErrUnavailable, 3, "try again later"},
		{fmt.Errorf("deposit: %w", &client.Problem{Type: "/problems/memory-full", Status: 503}), 3, "--memory-limit"},
		{cloakroom.ErrOutcomeUnknown, 1, "safe"},
		{importer.ErrRejected, 1, "Correct the rows"},
		{context.Canceled, 1, "goes on where it was"},
		{errors.New("something else"), 1, ""},
	} {
		var stderr strings.Builder
		a := &app{streams: streams{err: &stderr}}
		if code := a.report(test.err); code != test.code || !strings.Contains(stderr.String(), test.hint) {
			t.Errorf("%v: exit code %d, want %d; said %q", test.err, code, test.code, stderr.String())
		}
	}
}

// What a server sends must not drive a terminal.
func TestNoEscapesReachTheTerminal(t *testing.T) {
	var stderr, stdout strings.Builder
	a := &app{streams: streams{out: &stdout, err: &stderr}}
	a.report(&client.Problem{Status: 400, Detail: "a\x1b[31mb", Faults: []client.Fault{{Item: 3, Field: "\x1b[2J", Reason: "x"}}})
	if err := table(&stdout, [][]string{{"a\x1b[31m", "b\nc"}}); err != nil {
		t.Fatal(err)
	}
	if text := stderr.String() + stdout.String(); strings.Contains(text, "\x1b") || !strings.Contains(text, "item 3") {
		t.Errorf("got %q", text)
	}
}

func TestOverviewIsShortAndTellsWhatFails(t *testing.T) {
	rows, err := overview([]byte(`{"ready":true,"subjects":3,"node":"n1",
		"nodes":[{"name":"n1","alive":true},{"name":"n2","alive":false}],"clock_skew":true,"directory":{"leader":"n2","majority":true,"tolerates":1},
		"shards":[{"leading":true,"majority":true,"leader":"n1","role":"leader","tolerates":1},{"leader":"n2","majority":true,"parked":"disk"},
			{"role":"follower","majority":true},{"leader":"n2","majority":true,"role":"catching-up","lag":7}],
		"memory":{"backend":"secretmem","locked":{"keys":1024,"pool":1048576},"hardening":[{"name":"swap","ok":false,"detail":"swap is on"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(rows)
	for _, want := range []string{"ready yes", "subjects 3", "4, 1 led here, tolerated losses not known during an election",
		"shard 1 stopped here: disk; shard 2 has no leader; shard 3 is catching up here, 7 entries behind", "nodes n1 (this one), n2 (not heard of)",
		"directory led by n2, tolerates the loss of one node", "clocks no majority", "1.0 MiB locked", "swap does not hold"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if _, err := overview([]byte(`{"ready":`)); err == nil {
		t.Error("a torn document is taken")
	}
}

// A lost majority is not "tolerates no loss": nothing is answered any more.
func TestALostMajorityIsSaidToBe(t *testing.T) {
	document := []byte(`{"node":"n1","directory":{"role":"follower","majority":false,"tolerates":0},
		"shards":[{"role":"follower","majority":false,"tolerates":0},{"leader":"n1","majority":true,"tolerates":0},{"majority":true}]}`)
	rows, err := overview(document)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(rows)
	for _, want := range []string{"directory led by nobody, has no majority: answers nothing", "3, 0 led here; shard 0 has no majority: answers nothing; shard 2 has no leader"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if rows, err = shardRows(document); err != nil || rows[1][3] != "no majority" || rows[3][3] != "no node" || rows[4][3] != "not known" {
		t.Errorf("shards list: %v %v", rows, err)
	}
}

// Some ids can't be answered: the others are printed, and the code says to
// come back.
func TestResolveUnavailable(t *testing.T) {
	server := clienttest.Start(t)
	const there, away = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	server.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprintf(w, `{"subjects":{%q:{"display_name":"Ada"}},"missing":[],"unavailable":[%q]}`, there, away)
		return true
	})
	code, stdout, stderr := runHere("", "--addr", server.URL, "resolve", "--field", "display_name", there, away)
	if code != 3 || !strings.Contains(stdout, "Ada") || !strings.Contains(stderr, "1 of 2 ids") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
}

// An erasure that fails does not keep the others from being erased.
func TestEraseGoesOn(t *testing.T) {
	server := clienttest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(clienttest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--addr", server.URL, "--token-file", token}
	const there, away = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	if code, _, stderr := runHere(`{"display_name":"Ada"}`, append(args, "deposit", "--id", there)...); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := runHere(away+"\n"+there+"\n", append(args, "erase")...)
	if code != 1 || strings.Count(stdout, "erased_at") != 1 || !strings.Contains(stderr, "id number 1") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
}

// A leader lost in the middle of a batch is no reason to stop: people have ids
// of their own, and are deposited again.
func TestPeopleAreDepositedAgain(t *testing.T) {
	server := clienttest.Start(t)
	var calls atomic.Int64
	server.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if calls.Add(1) > 1 {
			return false
		}
		fmt.Fprint(w, `{"results":[{"id":"00000000-0000-4000-8000-00000000000a","version":"0000000000000001"},
			{"id":"00000000-0000-4000-8000-00000000000b","problem":{"type":"/problems/outcome-unknown","title":"unknown","status":504}}]}`)
		return true
	})
	token, err := client.NewToken([]byte(clienttest.Token))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Addr: server.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	crowd, err := people.New(people.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := depositPeople(t.Context(), c, crowd, 2); err != nil || calls.Load() != 2 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}
