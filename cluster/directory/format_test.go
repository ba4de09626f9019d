package directory

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloakroom"
)

var update = flag.Bool("update", false, "write golden files and seeds anew")

// samples are one command of each kind.
func samples() map[string]*Command {
	p := principal("renderer", 7)
	p.Grant.Issuers = []string{"https://id.example.org/?a&b"}
	p.Grant.AllDomains, p.Grant.Purposes, p.Grant.Expires = true, []string{"page"}, 1_900_000_000
	slots := make([]cloakroom.ShardID, 3) // too few: refused, but it has a form
	return map[string]*Command{
		"init":              initCommand(2),
		"set-schema":        schema(3, Field{Name: "email", Type: Email, Purposes: []string{"mail"}, MaxBytes: 99, MaxRetention: 5}),
		"put-principal":     {PutPrincipal: p},
		"revoke-principal":  {RevokePrincipal: &RevokePrincipal{Name: "renderer"}},
		"request-principal": {RequestPrincipal: request("renderer", "access-1", Deposit, Resolve)},
		"approve-principal": {ApprovePrincipal: &ApprovePrincipal{Name: "renderer", Hash: Digest{3}, By: "access-2", At: asked + 1, Credential: Digest{4}}},
		"suspend-principal": {SuspendPrincipal: &SuspendPrincipal{Name: "renderer", By: "access-1", Suspended: true}},
		"put-domain":        {PutDomain: &PutDomain{Name: "research"}},
		"set-settings": {SetSettings: &Settings{Replication: 3, RecoveryMode: "continuous", LeaseMillis: 3000, RetentionSec: 7,
			DeadAfterSec: 90, HandoverSec: 300, SinglePerson: true}},
		"set-slots": {SetSlots: &SetSlots{Slots: slots}},
		"put-node": {PutNode: &PutNode{Node: NodeInfo{Name: "n1", Life: life("n1", 2), Address: "[fd00::1]:7100", Zone: "cellar",
			API: "n1.test:8443", Key: Digest{0xaa}, Boot: 7}, Replaces: life("n1", 1)}},
		"admit-node":     {AdmitNode: &AdmitNode{Name: "n4", Key: Digest{4}, At: 1_800_000_000_000}},
		"drain-node":     {DrainNode: &DrainNode{Name: "n4", LeadersOnly: true}},
		"remove-node":    {RemoveNode: &RemoveNode{Name: "n4", Dead: true}},
		"put-join-token": {PutJoinToken: &PutJoinToken{Token: JoinToken{Hash: Digest{9}, Expires: 1_800_003_600_000, By: "operator"}, At: 1_800_000_000_000}},
		"use-join-token": {UseJoinToken: &UseJoinToken{Hash: Digest{9}, At: 1_800_000_000_500,
			Node: NodeInfo{Name: "n4", Address: "n4.test:7100", Zone: "attic", Key: Digest{4}}}},
		"add-replica":     {AddReplica: &AddReplica{Group: 3, Seen: 9, Replica: preparing("x", "n1", 1)}},
		"set-replica":     {SetReplica: &SetReplica{Group: 3, ID: "r3", State: Voter}},
		"refound-group":   {RefoundGroup: &RefoundGroup{Group: 3, Seen: 9, Replica: ReplicaInfo{ID: "rx", Address: "ax", Node: "n1", Life: life("n1", 1), State: Voter}}},
		"drop-replica":    {DropReplica: &DropReplica{Group: 3, ID: "r3"}},
		"set-keyring":     {SetKeyring: &SetKeyring{Version: 4, Hash: Digest{0xee}}},
		"set-recovery":    {SetRecovery: &Recovery{Recipient: "age1pq1xyz", Threshold: 2, Shares: []Digest{{1}, {2}, {3}}}},
		"next-sealing":    {NextSealing: &NextSealing{}},
		"record-erasures": recordErasures(erasureOf(0xab, 1<<40), erasureOf(0xcd, 7, 2, 65)),
	}
}

// golden compares got with the file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the released format changed:\n got %s\nwant %s", name, got, want)
	}
}

// seed writes one seed of a fuzz target with -update.
func seed(t *testing.T, target, name string, data []byte) {
	t.Helper()
	if !*update {
		return
	}
	folder := filepath.Join("testdata", "fuzz", target)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data)
	if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCommandFormat1(t *testing.T) {
	for name, cmd := range samples() {
		data, err := cmd.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-1-"+name+".golden", data)
		seed(t, "FuzzDecode", name, data)
		var back Command
		if err := Decode(data, &back); err != nil {
			t.Errorf("%s: decode: %v", name, err)
		}
	}
}

func TestSnapshotFormat1(t *testing.T) {
	l := newFeeder(t)
	history(l)
	golden(t, "snapshot-1.golden", image(t, l.Machine))
	seed(t, "FuzzRestore", "empty", image(t, New()))
	seed(t, "FuzzRestore", "residents", image(t, l.Machine))
}

// results are one of each code.
func results() map[string]Result {
	return map[string]Result{
		"done":      {Epoch: 1 << 40, SchemaEpoch: 7, SealingNumber: 1 << 31, Domain: 513},
		"malformed": {Code: Malformed, Epoch: 1},
		"invalid":   {Code: Invalid, Epoch: 2, SchemaEpoch: 1, Detail: "field 0: needs a name"},
		"conflict":  {Code: Conflict, Epoch: 3, Detail: "it is the last voter of shard 3"},
		"not-found": {Code: NotFound, Epoch: 4, Detail: "no such node"},
		"exhausted": {Code: Exhausted, Epoch: 5, Detail: "more than 64 nodes"},
		"already":   {Code: Already, Epoch: 6},
		"denied":    {Code: Denied, Epoch: 7, Detail: "who asks may not hand out rights"},
		"used":      {Code: Used, Epoch: 8},
		"expired":   {Code: Expired, Epoch: 9},
	}
}

func TestResultFormat1(t *testing.T) {
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(results())) {
		r := results()[name]
		data := r.Append(nil)
		all = fmt.Appendf(all, "%s %x\n", name, data)
		seed(t, "FuzzDecodeResult", name, data)
		if back, err := DecodeResult(data); err != nil || back != r {
			t.Errorf("%s: got %+v, %v", name, back, err)
		}
	}
	golden(t, "result-1.golden", all)
}

func TestDecodeResultRefuses(t *testing.T) {
	good := (&Result{Code: Already, Epoch: 9, Detail: "x"}).Append(nil)
	tests := map[string][]byte{
		"nothing":      nil,
		"cut short":    good[:resultHeader-1],
		"other format": append([]byte{2}, good[1:]...),
		"unknown code": append([]byte{1, 10}, good[2:]...),
		"too long":     append(bytes.Clone(good), make([]byte, maxDetail)...),
	}
	for name, data := range tests {
		if r, err := DecodeResult(data); !errors.Is(err, cloakroom.ErrMalformed) || r != (Result{}) {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
	long := Result{Code: Invalid, Detail: strings.Repeat("x", maxDetail+1)}
	if back, err := DecodeResult(long.Append(nil)); err != nil || len(back.Detail) != maxDetail {
		t.Errorf("long detail: got %d bytes, %v", len(back.Detail), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]string{
		"nothing":        "",
		"format only":    "01",
		"other format":   "02" + hex.EncodeToString([]byte(`{"next_sealing":{}}`)),
		"no member":      "01" + hex.EncodeToString([]byte(`{}`)),
		"two members":    "01" + hex.EncodeToString([]byte(`{"put_domain":{"name":"a"},"next_sealing":{}}`)),
		"unknown member": "01" + hex.EncodeToString([]byte(`{"next_sealing":{"x":1}}`)),
		"other spelling": "01" + hex.EncodeToString([]byte(`{"Next_Sealing":{}}`)),
		"white space":    "01" + hex.EncodeToString([]byte(`{"next_sealing": {}}`)),
		"trailing":       "01" + hex.EncodeToString([]byte(`{"next_sealing":{}}{}`)),
		"member twice":   "01" + hex.EncodeToString([]byte(`{"put_domain":{"name":"a","name":"b"}}`)),
		"short digest":   "01" + hex.EncodeToString([]byte(`{"set_keyring":{"version":1,"hash":"00"}}`)),
	}
	for name, text := range tests {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		var cmd Command
		if err := Decode(data, &cmd); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Decode(make([]byte, MaxCommandBytes+1), &Command{}); err == nil {
		t.Error("too large: accepted")
	}
	if _, err := (&Command{}).Append(nil); err == nil {
		t.Error("a command without a member was encoded")
	}
}

// What is decoded encodes to the same bytes, and applying it never panics.
func FuzzDecode(f *testing.F) {
	for _, cmd := range samples() {
		data, err := cmd.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var cmd Command
		if Decode(data, &cmd) != nil {
			if got := New().Apply(1, data); got.Code != Malformed {
				t.Fatalf("undecodable, yet code %d", got.Code)
			}
			return
		}
		again, err := cmd.Append(nil)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("re-encoded differently: %q, %v", again, err)
		}
		l := newFeeder(t)
		l.Apply(2, data)
		if err := New().Restore(bytes.NewReader(image(t, l.Machine))); err != nil {
			t.Fatalf("the state it led to can't be restored: %v", err)
		}
	})
}

// FuzzDecodeResult: what is accepted encodes to the same bytes.
func FuzzDecodeResult(f *testing.F) {
	for _, r := range results() {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeResult(data)
		if err == nil && !bytes.Equal(r.Append(nil), data) {
			t.Fatal("re-encoded differently")
		}
	})
}

// FuzzRestore: no bytes make Restore panic, and what it accepts it writes back.
func FuzzRestore(f *testing.F) {
	f.Add(image(f, New()))
	l := newFeeder(f)
	history(l)
	f.Add(image(f, l.Machine))
	next, err := join("n2", 3).Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := New()
		if m.Restore(bytes.NewReader(data)) != nil {
			return
		}
		if !bytes.Equal(image(t, m), data) {
			t.Fatal("restored state writes other bytes")
		}
		m.Apply(m.index+1, next)
		if v := m.Load(); v.Epoch > 0 && v.residentsFault() != "" {
			t.Fatalf("led astray: %s", v.residentsFault())
		}
	})
}
