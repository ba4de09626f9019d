package nodefile_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom/cmd/cloakroom/nodefile"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const least = `
node: { name: n1, data: data }
cluster: { advertise: 127.0.0.1:8202 }
recovery: { mode: none }
`

func parse(t *testing.T, text string) *nodefile.File {
	t.Helper()
	f, err := nodefile.Parse("/etc/cloakroom/n1.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v %v", err, lines(err))
	}
	return f
}

func lines(err error) []string {
	var faults nodefile.Faults
	if errors.As(err, &faults) {
		return faults.Lines()
	}
	return nil
}

func TestDefaults(t *testing.T) {
	f := parse(t, least)
	if f.API.Listen != "127.0.0.1:8200" || f.Operator.Listen != "127.0.0.1:8201" || f.Cluster.Listen != "0.0.0.0:8202" {
		t.Errorf("listeners: %+v %+v %+v", f.API, f.Operator, f.Cluster)
	}
	if f.Cluster.Shards != 16 || f.Cluster.Replication != 3 || f.Memory.Limit != 4<<30 || f.Cluster.HandoverWindow != 10*time.Minute {
		t.Errorf("numbers: %+v %+v", f.Cluster, f.Memory)
	}
	if f.Node.Data != "/etc/cloakroom/data" || f.Audit.File != "/etc/cloakroom/data/audit.log" {
		t.Errorf("paths: %s %s", f.Node.Data, f.Audit.File)
	}
	if _, given := f.Given("cluster.shards"); given {
		t.Error("cluster.shards counts as given")
	}
	if line, given := f.Given("recovery.mode"); !given || line != 4 {
		t.Errorf("recovery.mode: line %d, given %v", line, given)
	}
}

func TestEverythingGiven(t *testing.T) {
	f := parse(t, `# all of it
node:
  name: n-2.a
  zone: "b"
  data: /var/lib/cloakroom
api:
  listen: 0.0.0.0:8200
  advertise: n2.example.org:8200
  tls:
    cert: api.crt
    key: /secret/api.key
operator: { listen: "unix:/run/cloakroom.sock" }
cluster:
  listen: "[::]:8202"
  advertise: n2.example.org:8202
  replication: 1
  shards: 64
  installs: 4
  dead_after: 90s
  handover_window: 1s
recovery: { mode: none }
memory: { lock: required, limit: 512MiB }
audit: { file: log/audit.log, on_failure: count }
limits: { connections: 1, requests: 2, streams: 3, streams_each: 4 }
log: { level: warn, format: json }
`)
	if f.Node.Zone != "b" || f.API.Cert != "/etc/cloakroom/api.crt" || f.API.Key != "/secret/api.key" || !f.TLSFiles() {
		t.Errorf("%+v %+v", f.Node, f.API)
	}
	if f.OperatorSocket() != "/run/cloakroom.sock" || f.Cluster.Installs != 4 || f.Cluster.DeadAfter != 90*time.Second || f.Cluster.HandoverWindow != time.Second {
		t.Errorf("%+v %+v", f.Operator, f.Cluster)
	}
	if f.Limits.StreamsEach != 4 || f.Log.Format != "json" || f.Memory.Limit != 512<<20 || f.Audit.File != "/etc/cloakroom/log/audit.log" {
		t.Errorf("%+v %+v %+v %+v", f.Limits, f.Log, f.Memory, f.Audit)
	}
}

// All faults of a file come at once, each with its line.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := nodefile.Parse("n1.yaml", []byte(`node: { name: N1 }
api:
  listen: nonsense
  cors: []
operator:
  listen: unix:relative
cluster:
  listen: 0.0.0.0:8202
  replicaton: 3
  shards: many
  dead_after: [ 1s ]
recovery: { mode: continuous }
shards: 3
memory:
  limit: 4
memory: { }
`))
	want := []string{
		"line 1: node.name: want 1 to 64 lower-case",
		"line 3: api.listen: want HOST:PORT",
		"line 4: api.cors: not in this version",
		"line 6: operator.listen: the path of the socket has to begin with /",
		"line 8: cluster.advertise: is missing: the other nodes can't dial 0.0.0.0:8202",
		"line 9: cluster.replicaton: unknown key: did you mean cluster.replication?",
		"line 10: cluster.shards: want a number from 1 to 64",
		"line 11: cluster.dead_after: want a time",
		"line 12: recovery.mode: continuous is not in this version",
		"line 13: shards: unknown key: did you mean cluster.shards?",
		"line 15: memory.limit: want a size such as 512MiB",
		"line 16: memory: is there twice",
		"node.data: is missing",
	}
	got := lines(err)
	if len(got) != len(want) {
		t.Fatalf("%d faults, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d: %q, want %q", i, got[i], want[i])
		}
	}
	if err.Error() != "n1.yaml has 13 faults" {
		t.Errorf("got %q", err)
	}
}

func TestRefusals(t *testing.T) {
	const rest = "node: { name: n1, data: d }\nrecovery: { mode: none }\ncluster: { advertise: 'n1:8202' }\n"
	for _, test := range []struct{ text, want string }{
		{"", "node.name: is missing"},
		{"just a text", "line 1: want a section with keys"},
		{"- a\n- b\n", "line 1: want a section with keys"},
		{"node: [\n", "this is not YAML"},
		{"node: { name: n1\n", "this is not YAML"},
		{"a: 1\n---\nb: 2\n", "line 3: a second document"},
		{rest + "api: { listen: '0.0.0.0:8200' }", "line 4: api.listen: beyond the loopback interface"},
		{rest + "api: { listen: ':8200' }", "line 4: api.listen: beyond the loopback interface"},
		{rest + "api: { tls: external }", "line 4: api.tls: want internal"},
		{rest + "api: { tls: }", "line 4: api.tls: want internal, or a section"},
		{rest + "api: { tls: { cert: a } }", "line 4: api.tls: want both cert and key"},
		{rest + "api: { listen: 'localhost:08200' }", "line 4: api.listen: want HOST:PORT"},
		{rest + "api: { listen: 'localhost:8202' }", "line 4: cluster.listen: takes the same port as api.listen"},
		{rest + "operator: { listen: '127.0.0.1:8200' }", "line 4: operator.listen: takes the same port as api.listen"},
		{rest + "operator: { listen: unix:/" + strings.Repeat("x", 200) + " }", "at most 107 bytes"},
		{strings.Replace(rest, "n1:8202", "0.0.0.0:8202", 1), "line 3: cluster.advertise: want an address that other nodes can dial"},
		{strings.Replace(rest, "n1:8202", "n1:0", 1), "line 3: cluster.advertise: want an address that other nodes can dial"},
		{rest + "memory: &m { lock: auto }", "want a section with keys"},
		{rest + "memory: { limit: !!str 4GiB }", "want a size"},
		{rest + "memory: { lock: auto, lock: auto }", "line 4: memory.lock: is there twice"},
		{rest + "memory: { lock: maybe }", "line 4: memory.lock: want auto, required or off"},
		{rest + "memory: { limit: 99999999TiB }", "line 4: memory.limit: want a size"},
		{rest + "log: { level: 3 }", "line 4: log.level: want debug, info, warn or error"},
		{rest + "log:\n  <<: { level: info }", "line 5: log: want a plain key here"},
		{rest + "audit: { file: '' }", "line 4: audit.file: want a path"},
		{rest + "logg: { level: info }", "line 4: logg: unknown key: did you mean log?"},
		{rest + "recovery: { mode: none }", "line 4: recovery: is there twice"},
		{rest + "cluster.shards: 3", "line 4: cluster.shards: unknown key"},
		{strings.Replace(rest, "mode: none", "mode: sometimes", 1), "line 2: recovery.mode: want none"},
	} {
		f, err := nodefile.Parse("n1.yaml", []byte(test.text))
		if err == nil {
			t.Errorf("%q was taken: %+v", test.text, f)
			continue
		}
		if got := strings.Join(lines(err), "\n"); !strings.Contains(got, test.want) {
			t.Errorf("%q:\n%s\nwant %s", test.text, got, test.want)
		}
	}
}

func TestCompare(t *testing.T) {
	now := parse(t, least)
	next := parse(t, least+"log: { level: debug, format: json }\nmemory: { limit: 1GiB }\n")
	taken, restart := now.Compare(next)
	if !slices.Equal(taken, []string{"log.level"}) || !slices.Equal(restart, []string{"memory.limit", "log.format"}) {
		t.Errorf("taken %v, restart %v", taken, restart)
	}
	if taken, restart = now.Compare(parse(t, least)); len(taken)+len(restart) > 0 {
		t.Errorf("the same file: %v %v", taken, restart)
	}
}

func TestRead(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "n1.yaml")
	if _, err := nodefile.Read(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := nodefile.Read(path)
	if err != nil || f.Node.Data != filepath.Join(folder, "data") {
		t.Errorf("%v %v", f, err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#"), nodefile.MaxBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nodefile.Read(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a long file: %v", err)
	}
}

// TestReference holds docs/configuration.md to the code.
func TestReference(t *testing.T) {
	const path = "../../../docs/configuration.md"
	want := nodefile.Reference()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/configuration.md is not what the code says: go test ./cmd/cloakroom/nodefile -update")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > nodefile.MaxBytes {
			return
		}
		file, err := nodefile.Parse("/n1.yaml", text)
		if (file == nil) == (err == nil) {
			t.Fatalf("%v and %v", file, err)
		}
		for _, line := range lines(err) {
			if line == "" {
				t.Error("an empty fault")
			}
		}
	})
}
