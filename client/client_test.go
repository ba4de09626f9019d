package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/client/clienttest"
)

const name = "Ada Lovelace" // must stand in no error

// start returns a fake server and a client of it that does not wait; slept
// collects how long it would have.
func start(t *testing.T) (s *clienttest.Server, c *client.Client, slept *[]time.Duration) {
	t.Helper()
	s, slept = clienttest.Start(t), new([]time.Duration)
	token, err := client.NewToken([]byte(clienttest.Token + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err = client.New(client.Config{Addr: s.URL, Token: token, Sleep: func(ctx context.Context, d time.Duration) error {
		*slept = append(*slept, d)
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c, slept
}

func TestSubjectLife(t *testing.T) {
	s, c, _ := start(t)
	ctx := t.Context()
	made, err := c.Deposit(ctx, client.Subject{
		Domain: "web", TTL: time.Hour,
		Fields: client.Fields{"display_name": client.Text(name), "address": client.JSON([]byte(`{"city":"London"}`))},
	})
	if err != nil || !made.Created || made.Index == "" || made.Version == "" {
		t.Fatalf("Deposit = %+v, %v", made, err)
	}
	if got := s.Subjects()[made.ID].Domain; got != "web" {
		t.Errorf("domain %q, want web", got)
	}
	found, err := c.Get(ctx, made.ID, client.Query{})
	if err != nil || found.Fields["display_name"].Text() != name || found.Version != made.Version {
		t.Fatalf("Get = %v, %v", found, err)
	}
	if got := found.Fields["address"]; got.IsText() || got.Text() != `{"city":"London"}` {
		t.Errorf("address came back as %s", got.Text())
	}
	patched, err := c.Patch(ctx, made.ID, made.Version, client.Fields{"display_name": client.Text("Ada King"), "address": client.Null()})
	if err != nil || patched.Created {
		t.Fatalf("Patch = %+v, %v", patched, err)
	}
	if _, err := c.Patch(ctx, made.ID, made.Version, client.Fields{"display_name": client.Text(name)}); !errors.Is(err, cloakroom.ErrVersion) {
		t.Errorf("Patch with the old version: %v, want ErrVersion", err)
	}
	put, err := c.Put(ctx, client.Subject{ID: made.ID, Fields: client.Fields{"email": client.Text("ada@example.org")}})
	if err != nil || put.Created || put.ID != made.ID {
		t.Fatalf("Put = %+v, %v", put, err)
	}
	first, err := c.Erase(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Erase(ctx, made.ID); err != nil || string(again) != string(first) {
		t.Errorf("second Erase = %s, %v, want the first receipt", again, err)
	}
	if _, err := c.Get(ctx, made.ID, client.Query{}); !errors.Is(err, cloakroom.ErrNotFound) {
		t.Errorf("Get after Erase: %v, want ErrNotFound", err)
	}
	if _, err := c.Put(ctx, client.Subject{ID: made.ID}); !errors.Is(err, cloakroom.ErrErased) {
		t.Errorf("Put after Erase: %v, want ErrErased", err)
	}
}

func TestBatchReportsPerItem(t *testing.T) {
	_, c, _ := start(t)
	ctx := t.Context()
	gone, err := c.Deposit(ctx, client.Subject{Fields: client.Fields{"display_name": client.Text(name)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Erase(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	results, err := c.DepositBatch(ctx, []client.Subject{
		{Fields: client.Fields{"display_name": client.Text(name)}},
		{ID: gone.ID, Fields: client.Fields{"display_name": client.Text(name)}},
	})
	if err != nil || len(results) != 2 {
		t.Fatalf("DepositBatch = %v, %v", results, err)
	}
	if results[0].Err != nil || results[0].ID == (cloakroom.Pseudonym{}) {
		t.Errorf("first item = %+v", results[0])
	}
	if !errors.Is(results[1].Err, cloakroom.ErrErased) || results[1].ID != gone.ID {
		t.Errorf("second item = %+v, want ErrErased", results[1])
	}
}

func TestBatchFaultsName(t *testing.T) {
	s, c, _ := start(t)
	_, err := c.DepositBatch(t.Context(), []client.Subject{
		{Fields: client.Fields{"display_name": client.Text(name)}},
		{Fields: client.Fields{"birth_date": client.Text(name)}},
	})
	var p *client.Problem
	if !errors.As(err, &p) || !errors.Is(err, cloakroom.ErrSchema) {
		t.Fatalf("got %v, want a Problem that is ErrSchema", err)
	}
	if len(p.Faults) != 1 || p.Faults[0].Item != 1 || p.Faults[0].Field != "birth_date" || p.Faults[0].Reason == "" {
		t.Errorf("faults = %+v", p.Faults)
	}
	if len(s.Subjects()) != 0 {
		t.Error("something was written")
	}
	if strings.Contains(err.Error(), name) {
		t.Errorf("a value stands in %q", err)
	}
}

func TestResolveSplitsAndMerges(t *testing.T) {
	s, c, _ := start(t)
	ctx := t.Context()
	subjects := make([]client.Subject, 2100)
	for i := range subjects {
		subjects[i].Fields = client.Fields{"display_name": client.Text(fmt.Sprint(name, i))}
	}
	made, err := c.DepositBatch(ctx, subjects)
	if err != nil {
		t.Fatal(err)
	}
	var ids []cloakroom.Pseudonym
	for _, d := range made {
		ids = append(ids, d.ID, d.ID)
	}
	var missing cloakroom.Pseudonym
	missing[0] = 1
	missing.SetRandomForm()
	ids = append(ids, missing)
	before := len(s.Requests())
	got, err := c.Resolve(ctx, ids, client.Query{Fields: []string{"display_name"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()) - before; n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	if len(got.Subjects) != 2100 || len(got.Missing) != 1 || got.Missing[0] != missing || len(got.Unavailable) != 0 {
		t.Errorf("%d subjects, %d missing, %d unavailable", len(got.Subjects), len(got.Missing), len(got.Unavailable))
	}
	if v := got.Subjects[made[7].ID]["display_name"].Text(); v != name+"7" {
		t.Errorf("subject 7 has another name")
	}
}

func TestResolveOneRequestUnavailable(t *testing.T) {
	s, c, _ := start(t)
	ids := make([]cloakroom.Pseudonym, 1500)
	for i := range ids {
		ids[i][0], ids[i][1] = byte(i), byte(i>>8)
		ids[i].SetRandomForm()
	}
	calls := 0
	s.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if calls++; calls > 1 {
			clienttest.Problem(w, http.StatusServiceUnavailable, "unavailable")
			return true
		}
		return false
	})
	q := client.Query{Fields: []string{"email"}}
	got, err := c.Resolve(t.Context(), ids, q)
	if err != nil || len(got.Missing) != 1000 || len(got.Unavailable) != 500 {
		t.Fatalf("Resolve = %+v, %v", got, err)
	}
	if _, err := c.Resolve(t.Context(), ids, q); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("all unavailable: %v, want ErrUnavailable", err)
	}
}

func TestReadHeaders(t *testing.T) {
	s, c, _ := start(t)
	q := client.Query{Fields: []string{"email"}, Purpose: "support", After: "1-1-9", Level: cloakroom.Linearizable}
	_, err := c.Get(t.Context(), cloakroom.Pseudonym{6: 0x40, 8: 0x80}, q)
	if !errors.Is(err, cloakroom.ErrNotFound) {
		t.Fatal(err)
	}
	h := s.Requests()[0].Header
	got := [3]string{h.Get("Cloakroom-Purpose"), h.Get("Cloakroom-Index"), h.Get("Cloakroom-Consistency")}
	if want := [3]string{"support", "1-1-9", "linearizable"}; got != want {
		t.Errorf("headers %q, want %q", got, want)
	}
}

// TestGetSeveralFields: the comma between two names was sent as an escape,
// which a node refuses.
func TestGetSeveralFields(t *testing.T) {
	s, c, _ := start(t)
	ctx := t.Context()
	made, err := c.Deposit(ctx, client.Subject{Fields: client.Fields{
		"display_name": client.Text(name), "email": client.Text("ada@example.org"), "phone": client.Text("+4930123456")}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Get(ctx, made.ID, client.Query{Fields: []string{"display_name", "email"}})
	if err != nil || len(found.Fields) != 2 || found.Fields["email"].Text() != "ada@example.org" {
		t.Errorf("Get = %v, %v, want two fields", found, err)
	}
	sent := len(s.Requests())
	for _, q := range []client.Query{{Form: "masked"}, {Fields: []string{"a b"}}, {Fields: []string{"a&b=c"}}, {Fields: []string{"a\r\nb"}}} {
		if _, err := c.Get(ctx, made.ID, q); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("Get of %q: %v, want ErrMalformed", q, err)
		}
	}
	if got := len(s.Requests()); got != sent {
		t.Errorf("%d requests that a node would refuse were sent", got-sent)
	}
}

func TestSystemCalls(t *testing.T) {
	_, c, _ := start(t)
	ctx := t.Context()
	schema, err := c.Schema(ctx)
	if err != nil || len(schema.Fields) != 6 || schema.Fields[0].Name != "display_name" || schema.Fields[0].MaxBytes == 0 {
		t.Errorf("Schema = %+v, %v", schema, err)
	}
	for verb, f := range map[string]func() ([]byte, error){
		"status": func() ([]byte, error) { return c.Status(ctx) },
		"keys":   func() ([]byte, error) { return c.Keys(ctx) },
		"schema": func() ([]byte, error) { return c.SetSchema(ctx, []byte(`{"fields":[]}`)) },
	} {
		if body, err := f(); err != nil || len(body) == 0 {
			t.Errorf("%s = %s, %v", verb, body, err)
		}
	}
	if err := c.Ready(ctx); err != nil {
		t.Error(err)
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("  s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := client.ReadToken(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, client.Config{Token: token}); strings.Contains(got, "s3cret") || strings.Contains(got, "733363726574") {
			t.Errorf("%s prints the token", verb)
		}
	}
	for _, bad := range []string{"", " \n", "two words", "caf\u00e9", strings.Repeat("x", 5000)} {
		if _, err := client.NewToken([]byte(bad)); err == nil {
			t.Errorf("token of %d bytes accepted", len(bad))
		}
	}
	if _, err := client.ReadToken(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestValuesDoNotPrint(t *testing.T) {
	fields := client.Fields{"display_name": client.Text(name), "address": client.JSON([]byte(`"` + name + `"`))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, client.Subject{Fields: fields}); strings.Contains(got, "Ada") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestValueMustBeUTF8(t *testing.T) {
	s, c, _ := start(t)
	_, err := c.Deposit(t.Context(), client.Subject{Fields: client.Fields{"display_name": client.Text("Ada\xff")}})
	if !errors.Is(err, cloakroom.ErrMalformed) || strings.Contains(err.Error(), "Ada") || len(s.Requests()) != 0 {
		t.Errorf("got %v after %d requests", err, len(s.Requests()))
	}
}

func TestConfigFaults(t *testing.T) {
	for addr, want := range map[string]string{
		"":                         "no address",
		"http://10.0.0.1:8200":     "plain http beyond",
		"ftp://127.0.0.1":          "neither",
		"https://host/path":        "not https://host:port",
		"https://user:pw@host:820": "not https://host:port",
	} {
		_, err := client.New(client.Config{Addr: addr})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v, want %q", addr, err, want)
		}
	}
	for _, addr := range []string{"127.0.0.1:8200", "[::1]:8200", "localhost:8200", "db.example.org:8200", "https://db.example.org"} {
		if _, err := client.New(client.Config{Addr: addr}); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
	_, err := client.New(client.Config{Addr: "", CACert: "/nonexistent", Timeout: -1})
	for _, want := range []string{"no address", "CA certificate", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not name %q", err, want)
		}
	}
}

// What is said about times, keys and indexes reaches the server as the API has
// it: one time for all fields, or one for each.
func TestTimesKeysAndIndexesOnTheWire(t *testing.T) {
	s, c, _ := start(t)
	ctx := t.Context()
	fields := client.Fields{"display_name": client.Text(name), "email": client.Text("ada@example.org")}
	each := map[string]time.Duration{"email": time.Hour}
	made, err := c.Deposit(ctx, client.Subject{Fields: fields, FieldTTL: each})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, client.Subject{ID: made.ID, Fields: fields, TTL: 2 * time.Hour, FieldTTL: each, IdempotencyKey: "k1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Change(ctx, made.ID, client.Change{Fields: fields, TTL: 3 * time.Hour, IdempotencyKey: "k2", After: made.Index}); err != nil {
		t.Fatal(err)
	}
	batch, err := c.DepositBatch(ctx, []client.Subject{{Fields: fields, FieldTTL: each}})
	if err != nil || batch[0].Index == "" {
		t.Fatalf("batch: %+v, %v", batch, err)
	}
	for i, want := range []struct{ ttl, key, index string }{
		{`"ttl":{"email":"1h0m0s"}`, "", ""},
		{`"ttl":{"display_name":"2h0m0s","email":"1h0m0s"}`, "k1", ""},
		{`"ttl":"3h0m0s"`, "k2", made.Index},
		{`"ttl":{"email":"1h0m0s"}`, "", ""},
	} {
		r := s.Requests()[i]
		if !strings.Contains(string(r.Body), want.ttl) || want.key != "" && r.Key != want.key || r.Header.Get("Cloakroom-Index") != want.index {
			t.Errorf("request %d: key %q, index %q, and %s in it: %v", i, r.Key, r.Header.Get("Cloakroom-Index"), want.ttl, strings.Contains(string(r.Body), want.ttl))
		}
	}
}

// A patch that may be sent twice is, after a 504: with a key and a version.
func TestAPatchWithKeyAndVersionIsRetried(t *testing.T) {
	for _, test := range []struct {
		key, version string
		requests     int
	}{{"k", "0011223344556677", 2}, {"k", "", 1}, {"", "0011223344556677", 1}} {
		s, c, _ := start(t)
		tries := 0
		s.Hook(func(w http.ResponseWriter, r *http.Request) bool {
			tries++
			if tries == 1 {
				clienttest.Problem(w, 504, "outcome-unknown")
				return true
			}
			return false
		})
		_, err := c.Change(t.Context(), cloakroom.Pseudonym{6: 0x40, 8: 0x80, 15: 1}, client.Change{
			Fields: client.Fields{"email": client.Null()}, IdempotencyKey: test.key, Version: test.version})
		if err == nil || tries != test.requests {
			t.Errorf("key %q, version %q: %d requests, want %d (%v)", test.key, test.version, tries, test.requests, err)
		}
	}
}
