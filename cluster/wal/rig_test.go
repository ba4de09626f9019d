package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom/cluster/disk"
	"cloakroom/cluster/disk/disktest"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var self = Identity{Group: "directory", Generation: 1, ID: "replica-1", Addr: "addr-1"}

const testDir = "/data/directory"

// sealedBy is what a command begins with here: the rest is not looked at.
const sealedBy = "sealed:"

func config(fsys disk.FS) Config {
	return Config{FS: fsys, Dir: testDir, Identity: self, Boot: 1, SegmentSize: 4 << 10,
		Check: func(_ uint64, entry []byte) error {
			if !bytes.HasPrefix(entry, []byte(sealedBy)) {
				return errors.New("not sealed")
			}
			return nil
		},
		CheckSnapshot: func(r io.Reader, of Snapshot) error {
			got, err := io.ReadAll(r)
			if err == nil && string(got) != state(of.Index) {
				err = errors.New("not the state")
			}
			return err
		},
	}
}

// newFS returns a file system with the folder above the replica's.
func newFS(t testing.TB) *disktest.FS {
	t.Helper()
	fsys := disktest.New()
	must(t, fsys.MkdirAll(filepath.Dir(testDir)))
	must(t, fsys.SyncDir("/"))
	return fsys
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func made(t testing.TB, fsys disk.FS) *Store {
	t.Helper()
	s, err := Create(config(fsys))
	must(t, err)
	return s
}

func opened(t testing.TB, fsys disk.FS) *Store {
	t.Helper()
	s, err := Open(config(fsys))
	must(t, err)
	return s
}

// entry is what stands at an index.
func entry(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, AppendedAt: time.Unix(0, int64(index)),
		Data:       []byte(fmt.Sprintf("%s%d/%d:%s", sealedBy, index, term, strings.Repeat("x", int(index*37%300)))),
		Extensions: []byte(strings.Repeat("e", int(index%3)))}
}

func entries(first, last, term uint64) (logs []*raft.Log) {
	for index := first; index <= last; index++ {
		logs = append(logs, entry(index, term))
	}
	return logs
}

func state(index uint64) string { return fmt.Sprintf("state at %d", index) }

// snap takes a snapshot.
func snap(t testing.TB, s *Store, index, term uint64) error {
	t.Helper()

	w, err := s.Snapshots().Create(1, index, term, rigConfiguration(), 1, nil)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, state(index)); err != nil {
		return errors.Join(err, w.Cancel())
	}
	return w.Close()
}

// replay returns what the store was opened with.
func replay(t testing.TB, s *Store) (logs []*raft.Log) {
	t.Helper()
	must(t, s.Replay(func(log *raft.Log) error { logs = append(logs, log); return nil }))
	return logs
}

// holding says all that a store holds, to be compared.
func holding(t testing.TB, s *Store) string {
	t.Helper()
	var b strings.Builder
	for _, log := range replay(t, s) {
		fmt.Fprintf(&b, "%d %d %d %s %s %d\n", log.Index, log.Term, log.Type, log.Data, log.Extensions, log.AppendedAt.UnixNano())
	}
	term, _ := s.GetUint64([]byte(keyTerm))
	voteTerm, _ := s.GetUint64([]byte(keyVoteTerm))
	candidate, _ := s.Get([]byte(keyCandidate))
	fmt.Fprintf(&b, "term %d, vote %d %s\n", term, voteTerm, candidate)
	metas, err := s.Snapshots().List()
	must(t, err)
	for _, meta := range metas {
		_, r, err := s.Snapshots().Open(meta.ID)
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		fmt.Fprintf(&b, "snapshot %d %d %d %v %s\n", meta.Index, meta.Term, meta.ConfigurationIndex, meta.Configuration, got)
	}
	return b.String()
}

func span(logs []*raft.Log) string {
	if len(logs) == 0 {
		return "none"
	}
	for i, log := range logs {
		want := entry(log.Index, log.Term)
		if log.Index != logs[0].Index+uint64(i) || string(log.Data) != string(want.Data) || string(log.Extensions) != string(want.Extensions) ||
			log.Type != want.Type || !log.AppendedAt.Equal(want.AppendedAt) {
			return fmt.Sprintf("entry %d is not what was stored", log.Index)
		}
	}
	var terms []uint64
	for _, log := range logs {
		if !slices.Contains(terms, log.Term) {
			terms = append(terms, log.Term)
		}
	}
	return fmt.Sprintf("%d-%d, terms %v", logs[0].Index, logs[len(logs)-1].Index, terms)
}

func rigConfiguration() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{ID: "replica-1", Address: "addr-1"}}}
}
