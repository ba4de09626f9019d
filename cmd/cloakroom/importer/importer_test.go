package importer_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/client/clienttest"
	"cloakroom/cmd/cloakroom/importer"
	"cloakroom/cmd/cloakroom/rows"
)

// secret stands in the values of bad rows, and must stand in no message.
const secret = "Lovelace"

// bench is a server, a folder for the map, and what an import said.
type bench struct {
	t        *testing.T
	server   *clienttest.Server
	client   *client.Client
	out      bytes.Buffer
	mapPath  string
	rejected []string
	change   func(*importer.Config)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, server: clienttest.Start(t), mapPath: filepath.Join(t.TempDir(), "map.csv"), change: func(*importer.Config) {}}
	token, err := client.NewToken([]byte(clienttest.Token))
	if err != nil {
		t.Fatal(err)
	}
	b.client, err = client.New(client.Config{Addr: b.server.URL, Token: token, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	return b
}

func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// run imports a CSV file. key is "key COLUMN", "id COLUMN" or "".
func (b *bench) run(ctx context.Context, file, key string) (importer.Summary, error) {
	b.t.Helper()
	b.rejected = nil
	b.out.Reset()
	mode, column, _ := strings.Cut(key, " ")
	cfg := importer.Config{
		Server: b.client, Key: column, Out: &b.out, BatchRows: 10, Parallel: 2, Sleep: noWait,
		Fields: []importer.Field{{Name: "display_name", Column: "display_name"}, {Name: "birth_date", Column: "birth_date", MaxBytes: 40}},
		Open: func() (rows.Source, error) {
			return rows.OpenCSV(strings.NewReader(file), rows.Config{Fields: []string{"display_name", "birth_date"}, JSON: make([]bool, 2), Key: column, IgnoreUnknown: column == ""})
		},
		Reject: func(f rows.Fault) { b.rejected = append(b.rejected, f.Error()) },
	}
	if mode == "key" {
		journal, err := importer.OpenJournal(b.mapPath, column, rand(b.t))
		if err != nil {
			return importer.Summary{}, err
		}
		cfg.Journal = journal
	}
	b.change(&cfg)
	imp, err := importer.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	summary, err := imp.Run(ctx)
	slices.Sort(b.rejected)
	for _, text := range append(b.rejected, fmt.Sprint(err)) {
		if strings.Contains(text, secret) {
			b.t.Errorf("a value stands in %q", text)
		}
	}
	return summary, err
}

// rand is a source that never gives the same bytes twice, in one process.
func rand(testing.TB) io.Reader { return &counter{} }

type counter struct{}

var drawn byte

func (counter) Read(p []byte) (int, error) {
	for i := range p {
		drawn++
		p[i] = drawn
	}
	drawn++
	return len(p), nil
}

// people returns a file of n rows with the keys C0 and on.
func people(n int) string {
	var text strings.Builder
	text.WriteString("no,display_name,birth_date\n")
	for i := range n {
		fmt.Fprintf(&text, "C%d,Person %d,1990-01-01\n", i, i)
	}
	return text.String()
}

// theMap reads the map and checks it against what the server holds.
func (b *bench) theMap() map[string]string {
	b.t.Helper()
	file, err := os.Open(b.mapPath)
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	info, _ := file.Stat()
	if info.Mode().Perm() != 0o600 {
		b.t.Errorf("the map has mode %v", info.Mode())
	}
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		b.t.Fatal(err)
	}
	subjects, ids := b.server.Subjects(), map[string]string{}
	for _, r := range records[1:] {
		id, err := cloakroom.ParsePseudonym([]byte(r[1]))
		if err != nil || ids[r[0]] != "" {
			b.t.Fatalf("row of the map: %q, %v", r, err)
		}
		if _, ok := subjects[id]; !ok {
			b.t.Errorf("%s stands in the map and is not stored", r[0])
		}
		ids[r[0]] = r[1]
	}
	return ids
}

func (b *bench) seed() bool {
	_, err := os.Stat(b.mapPath + ".unfinished")
	return err == nil
}

func TestSecondRunChangesNothing(t *testing.T) {
	b := newBench(t)
	summary, err := b.run(t.Context(), people(35), "key no")
	if want := (importer.Summary{Read: 35, Deposited: 35}); err != nil || summary != want {
		t.Fatalf("got %+v, %v", summary, err)
	}
	first := b.theMap()
	if len(first) != 35 || b.seed() {
		t.Errorf("%d rows in the map, seed there: %v", len(first), b.seed())
	}
	requests, before := len(b.server.Requests()), read(t, b.mapPath)
	summary, err = b.run(t.Context(), people(35), "key no")
	if want := (importer.Summary{Read: 35, Skipped: 35}); err != nil || summary != want {
		t.Fatalf("second run: %+v, %v", summary, err)
	}
	if n := len(b.server.Requests()); n != requests || read(t, b.mapPath) != before || b.seed() {
		t.Errorf("the second run sent %d requests, or changed the map", n-requests)
	}
	summary, err = b.run(t.Context(), people(37), "key no")
	if want := (importer.Summary{Read: 37, Deposited: 2, Skipped: 35}); err != nil || summary != want {
		t.Fatalf("two more rows: %+v, %v", summary, err)
	}
	for key, id := range b.theMap() {
		if was, ok := first[key]; ok && was != id {
			t.Errorf("%s has another pseudonym", key)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whatever an interrupted run left behind, the next one names every row alike:
// nobody is deposited twice.
func TestResume(t *testing.T) {
	for what, broken := range map[string]func(call int, w http.ResponseWriter) bool{
		"refused from the third batch on": func(call int, w http.ResponseWriter) bool {
			if call >= 3 {
				clienttest.Problem(w, http.StatusServiceUnavailable, "memory-full")
			}
			return call >= 3
		},
		"answers lost": func(call int, w http.ResponseWriter) bool {
			return call == 2 // nothing written: an empty 200, which is no answer
		},
	} {
		b := newBench(t)
		call := 0
		b.change = func(cfg *importer.Config) { cfg.Parallel = 1 }
		b.server.Hook(func(w http.ResponseWriter, _ *http.Request) bool { call++; return broken(call, w) })
		if _, err := b.run(t.Context(), people(45), "key no"); err == nil || !b.seed() {
			t.Fatalf("%s: %v, seed there: %v", what, err, b.seed())
		}
		done := b.theMap()
		b.server.Hook(nil)
		summary, err := b.run(t.Context(), people(45), "key no")
		if err != nil || summary.Skipped != int64(len(done)) || summary.Deposited != int64(45-len(done)) {
			t.Errorf("%s: resumed after %d: %+v, %v", what, len(done), summary, err)
		}
		if n := len(b.server.Subjects()); n != 45 || len(b.theMap()) != 45 || b.seed() {
			t.Errorf("%s: %d subjects, %d in the map", what, n, len(b.theMap()))
		}
	}
}

// A crash between the server's write and ours to the map: the rows are sent
// again under the same pseudonyms. A torn row of the map is dropped.
func TestResumeWithTornMap(t *testing.T) {
	b := newBench(t)
	b.change = func(cfg *importer.Config) { cfg.Parallel = 1 }
	calls := 0
	b.server.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		if calls++; calls == 3 {
			clienttest.Problem(w, http.StatusServiceUnavailable, "memory-full")
		}
		return calls == 3
	})
	if _, err := b.run(t.Context(), people(30), "key no"); err == nil {
		t.Fatal("not interrupted")
	}
	text := read(t, b.mapPath)
	if err := os.WriteFile(b.mapPath, []byte(text[:len(text)-5]), 0o600); err != nil {
		t.Fatal(err)
	}
	b.server.Hook(nil)
	summary, err := b.run(t.Context(), people(30), "key no")
	if want := (importer.Summary{Read: 30, Deposited: 11, Skipped: 19}); err != nil || summary != want {
		t.Errorf("got %+v, %v", summary, err)
	}
	if n := len(b.server.Subjects()); n != 30 || len(b.theMap()) != 30 {
		t.Errorf("%d subjects, %d in the map", n, len(b.theMap()))
	}
}

func TestInterrupt(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.server.Hook(func(http.ResponseWriter, *http.Request) bool { cancel(); return false })
	summary, err := b.run(ctx, people(1000), "key no")
	if !errors.Is(err, context.Canceled) || !b.seed() || summary.Unknown != 0 {
		t.Fatalf("%+v, %v, seed there: %v", summary, err, b.seed())
	}
	if n := len(b.server.Subjects()); n == 1000 || n != len(b.theMap()) {
		t.Errorf("%d subjects, %d in the map: what was in flight is lost", n, len(b.theMap()))
	}
}

func TestBadRows(t *testing.T) {
	b := newBench(t)
	file := "no,display_name,birth_date\n" +
		"1,Ada,1815-12-10\n" +
		"2,Lovelace,Lovelace\n" + // the server refuses it
		"1,Eve,1990-01-01\n" +
		",Lovelace,1990-01-01\n" +
		"3,Lovelace\n" +
		"4,\"Love\"lace,1990-01-01\n" +
		"5,Lovelace," + strings.Repeat("1", 41) + "\n" +
		"6," + strings.Repeat("Lovelace", 9000) + ",1990-01-01\n" +
		"7,,\n" +
		"8\x01,Lovelace,\n" +
		strings.Repeat("k", 2000) + ",Lovelace,\n" +
		"9,Bob,1990-01-01\n"
	summary, err := b.run(t.Context(), file, "key no")
	if want := (importer.Summary{Read: 12, Deposited: 2, Rejected: 10}); !errors.Is(err, importer.ErrRejected) || summary != want {
		t.Errorf("got %+v, %v", summary, err)
	}
	want := []string{
		"line 10: no field has a value",
		"line 11, column no: holds a control character",
		"line 12, column no: longer than 1024 bytes",
		"line 3, column birth_date: want a date such as 2006-01-02",
		"line 4, column no: an earlier row has the same",
		"line 5, column no: the cell is empty, and it must name the row",
		"line 6: 2 cells where the header has 3",
		"line 7, column display_name: text stands behind the closing quote",
		"line 8, column birth_date: longer than 40 bytes",
		"line 9: the values have more than 65536 bytes together",
	}
	if !slices.Equal(b.rejected, want) {
		t.Errorf("rejected %q, want %q", b.rejected, want)
	}
	if ids := b.theMap(); len(ids) != 2 || ids["1"] == "" || ids["9"] == "" || b.seed() {
		t.Errorf("map %v", ids)
	}
}

func TestStrict(t *testing.T) {
	b := newBench(t)
	b.change = func(cfg *importer.Config) { cfg.Strict = true }
	summary, err := b.run(t.Context(), people(30)+"C30,Lovelace\n", "key no")
	if !errors.Is(err, importer.ErrStrict) || summary.Deposited != 0 || len(b.server.Requests()) != 0 || b.seed() {
		t.Errorf("a bad last row: %+v, %v, %d requests", summary, err, len(b.server.Requests()))
	}
	if _, err := b.run(t.Context(), people(30)+"C30,Lovelace,19\n", "key no"); !errors.Is(err, importer.ErrStrict) || !b.seed() {
		t.Errorf("a row the server refuses: %v", err)
	}
	summary, err = b.run(t.Context(), people(31), "key no")
	if err != nil || summary.Read != 31 || summary.Deposited+summary.Skipped != 31 || len(b.server.Subjects()) != 31 {
		t.Errorf("corrected: %+v, %v", summary, err)
	}
}

func TestTooLargeIsHalved(t *testing.T) {
	b := newBench(t)
	b.server.LimitBody(400)
	file := people(40) + "C40," + strings.Repeat("Lovelace", 60) + ",1990-01-01\n"
	summary, err := b.run(t.Context(), file, "key no")
	if !errors.Is(err, importer.ErrRejected) || summary.Deposited != 40 || summary.Rejected != 1 {
		t.Fatalf("got %+v, %v", summary, err)
	}
	if len(b.theMap()) != 40 || b.rejected[0] != "line 42: larger than the server takes" {
		t.Errorf("rejected %q", b.rejected)
	}
	b = newBench(t)
	b.server.LimitBody(500)
	b.change = func(cfg *importer.Config) { cfg.Parallel = 1 }
	if _, err := b.run(t.Context(), people(200), ""); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, r := range b.server.Requests() {
		if len(r.Body) > 500 {
			refused++
		}
	}
	if refused < 1 || refused > 3 {
		t.Errorf("%d bodies were too large: want a few, to learn from", refused)
	}
}

// Items that could not be done are sent again under the same key until they
// are, and count once.
func TestItemsThatMustWait(t *testing.T) {
	b := newBench(t)
	calls := 0
	b.server.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if calls++; calls > 2 {
			return false
		}
		var body struct{ Subjects []json.RawMessage }
		json.NewDecoder(r.Body).Decode(&body)
		results := make([]map[string]any, len(body.Subjects))
		for i := range results {
			id := fmt.Sprintf("00000000-0000-4000-9000-%012x", i)
			results[i] = map[string]any{"id": id, "version": "00000000000000aa"}
			if i%2 == 1 {
				results[i] = map[string]any{"id": id, "problem": map[string]any{"type": "/problems/unavailable", "status": 503}}
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"results": results})
		return true
	})
	summary, err := b.run(t.Context(), people(10), "")
	if want := (importer.Summary{Read: 10, Deposited: 10}); err != nil || summary != want {
		t.Errorf("got %+v, %v", summary, err)
	}
	requests := b.server.Requests()
	if len(requests) != 3 || requests[0].Key != requests[2].Key || !bytes.Equal(requests[0].Body, requests[2].Body) {
		t.Errorf("%d requests, or another key or body", len(requests))
	}
	if n := strings.Count(b.out.String(), "\n"); n != 10 {
		t.Errorf("%d rows in the map, want 10", n)
	}
}

func TestErasedStaysErased(t *testing.T) {
	b := newBench(t)
	var id cloakroom.Pseudonym
	id.SetRandomForm()
	id[0] = 1
	ctx := t.Context()
	if _, err := b.client.Put(ctx, client.Subject{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Erase(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err := b.run(ctx, "id,display_name\n"+id.String()+",Lovelace\n", "id id")
	if !errors.Is(err, importer.ErrRejected) || len(b.rejected) != 1 || b.rejected[0] != "line 2: erased" {
		t.Errorf("%v, rejected %q", err, b.rejected)
	}
}

func TestIDColumn(t *testing.T) {
	b := newBench(t)
	good := "00000000-0000-4000-8000-00000000000a"
	file := "id,display_name\n" + good + ",Ada\n" + strings.ToUpper(good) + ",Lovelace\nx,Lovelace\n00000000-0000-1000-8000-00000000000a,Lovelace\n"
	summary, err := b.run(t.Context(), file, "id id")
	if want := (importer.Summary{Read: 4, Deposited: 1, Rejected: 3}); !errors.Is(err, importer.ErrRejected) || summary != want {
		t.Errorf("got %+v, %v", summary, err)
	}
	want := []string{"line 3, column id: an earlier row has the same",
		"line 4, column id: " + cloakroom.ErrMalformedID.Error(), "line 5, column id: " + cloakroom.ErrNotRandomID.Error()}
	if !slices.Equal(b.rejected, want) {
		t.Errorf("rejected %q", b.rejected)
	}
	id, _ := cloakroom.ParsePseudonym([]byte(good))
	if _, ok := b.server.Subjects()[id]; !ok || b.out.Len() != 0 {
		t.Error("not stored under its id, or something was written to the map")
	}
}

func TestServerDrawsPseudonyms(t *testing.T) {
	b := newBench(t)
	b.change = func(cfg *importer.Config) { cfg.Domain, cfg.TTL = "web", "1h0m0s" }
	if _, err := b.run(t.Context(), "display_name\nAda\n\"B\"\"o\\b\n\x01\"\n", ""); err != nil {
		t.Fatal(err)
	}
	subjects := b.server.Subjects()
	for line, want := range map[string]string{"2": "Ada", "3": "B\"o\\b\n\x01"} {
		_, rest, _ := strings.Cut(b.out.String(), line+",")
		id, err := cloakroom.ParsePseudonym([]byte(rest[:36]))
		var got string
		json.Unmarshal(subjects[id].Fields["display_name"], &got)
		if err != nil || got != want || subjects[id].Domain != "web" {
			t.Errorf("line %s: %q, %v", line, got, err)
		}
	}
}

func TestJournalRefusals(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "map.csv")
	first, err := importer.OpenJournal(path, "no", rand(t))
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.KeepAlive(first) // its file holds the lock
	if _, err := importer.OpenJournal(path, "no", rand(t)); err == nil || !strings.Contains(err.Error(), "another import") {
		t.Errorf("two at once: %v", err)
	}
	for what, text := range map[string]string{
		"its first line is not":  "email,pseudonym\nx,00000000-0000-4000-8000-00000000000a\n",
		"line 2 is not a key":    "no,pseudonym\nx,y\n",
		"line 3 is not a key":    "no,pseudonym\nx,00000000-0000-4000-8000-00000000000a\n1,2,3\n",
		"opened and never close": "no,pseudonym\n\"x,00000000-0000-4000-8000-00000000000a\n",
	} {
		other := filepath.Join(folder, "other.csv")
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := importer.OpenJournal(other, "no", rand(t))
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v", text, err)
		}
		if read(t, other) != text {
			t.Errorf("%q: the file was changed", text)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "new.csv.unfinished"), bytes.Repeat([]byte("x"), 200), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := importer.OpenJournal(filepath.Join(folder, "new.csv"), "no", rand(t)); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("foreign seed file: %v", err)
	}
}

// An editor may have dropped the last line end of a finished map.
func TestMapWithoutLastLineEnd(t *testing.T) {
	b := newBench(t)
	if _, err := b.run(t.Context(), people(2), "key no"); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.TrimSuffix(read(t, b.mapPath), "\n"), "\n", "\r\n")
	if err := os.WriteFile(b.mapPath, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	summary, err := b.run(t.Context(), people(3), "key no")
	if want := (importer.Summary{Read: 3, Deposited: 1, Skipped: 2}); err != nil || summary != want || len(b.theMap()) != 3 {
		t.Errorf("got %+v, %v", summary, err)
	}
}

func TestConfigFaults(t *testing.T) {
	_, err := importer.New(importer.Config{BatchRows: 10_001, Parallel: -1})
	for _, want := range []string{"must be given", "1 to 10000 rows", "1 to 64"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}

// A refusal that names no row of the batch is no reason to send it for ever.
func TestFaultsOfNobody(t *testing.T) {
	b := newBench(t)
	b.server.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		clienttest.Problem(w, http.StatusUnprocessableEntity, "schema", map[string]any{"item": 99, "reason": "x"}, map[string]any{"reason": "y"})
		return true
	})
	if _, err := b.run(t.Context(), people(5), "key no"); !errors.Is(err, cloakroom.ErrSchema) || len(b.rejected) != 0 {
		t.Errorf("got %v, rejected %q", err, b.rejected)
	}
}
