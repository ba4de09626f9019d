package directory

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"cloakroom"
)

var update = flag.Bool("update", false, "write golden files and seeds anew")

// samples are one command of each kind.
func samples() map[string]*Command {
	p := principal("renderer", 7)
	p.Grant.AllDomains, p.Grant.Purposes, p.Grant.Expires = true, []string{"page"}, 1_900_000_000
	slots := make([]cloakroom.ShardID, 3) // too few: refused, but it has a form
	return map[string]*Command{
		"init":             initCommand(2),
		"set-schema":       schema(3, Field{Name: "email", Type: Email, Purposes: []string{"mail"}, MaxBytes: 99, MaxRetention: 5}),
		"put-principal":    {PutPrincipal: p},
		"revoke-principal": {RevokePrincipal: &RevokePrincipal{Name: "renderer"}},
		"put-domain":       {PutDomain: &PutDomain{Name: "research"}},
		"set-settings":     {SetSettings: &Settings{Replication: 3, RecoveryMode: "continuous", LeaseMillis: 3000, RetentionSec: 7}},
		"set-slots":        {SetSlots: &SetSlots{Slots: slots}},
		"put-node":         {PutNode: &PutNode{Node: NodeInfo{"n1", life("n1", 2), "[fd00::1]:7100", "cellar"}, Replaces: life("n1", 1)}},
		"add-replica":      {AddReplica: &AddReplica{Group: 3, Seen: 9, Replica: preparing("x", "n1", 1)}},
		"set-replica":      {SetReplica: &SetReplica{Group: 3, ID: "r3", State: Voter}},
		"drop-replica":     {DropReplica: &DropReplica{Group: 3, ID: "r3"}},
		"set-keyring":      {SetKeyring: &SetKeyring{Version: 4, Hash: Digest{0xee}}},
		"next-sealing":     {NextSealing: &NextSealing{}},
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

func TestCommandFormat1(t *testing.T) {
	for name, cmd := range samples() {
		data, err := cmd.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-1-"+name+".golden", data)
		var back Command
		if err := Decode(data, &back); err != nil {
			t.Errorf("%s: decode: %v", name, err)
		}
	}
}

func TestSnapshotFormat1(t *testing.T) {
	l := newLedger(t)
	history(l)
	golden(t, "snapshot-1.golden", image(t, l.Machine))
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
		l := newLedger(t)
		l.Apply(2, data)
		if err := New().Restore(bytes.NewReader(image(t, l.Machine))); err != nil {
			t.Fatalf("the state it led to can't be restored: %v", err)
		}
	})
}

// FuzzRestore: no bytes make Restore panic, and what it accepts it writes back.
func FuzzRestore(f *testing.F) {
	f.Add(image(f, New()))
	l := newLedger(f)
	history(l)
	f.Add(image(f, l.Machine))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := New()
		if m.Restore(bytes.NewReader(data)) == nil && !bytes.Equal(image(t, m), data) {
			t.Fatal("restored state writes other bytes")
		}
	})
}
