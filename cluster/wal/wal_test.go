package wal

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"cloakroom/cluster/disk"
	"cloakroom/cluster/disk/disktest"
)

func TestWhatWasStoredIsThereAgain(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.SetUint64([]byte(keyTerm), 3))
	must(t, s.SetUint64([]byte(keyVoteTerm), 3))
	must(t, s.Set([]byte(keyCandidate), []byte("addr-2")))
	must(t, s.StoreLogs(entries(1, 40, 1)))
	must(t, snap(t, s, 30, 1))
	must(t, s.DeleteRange(1, 20))
	must(t, s.StoreLogs(entries(41, 90, 3)))
	must(t, s.Close())
	s = opened(t, fsys)
	if term, index := s.Last(); term != 3 || index != 90 {
		t.Errorf("last: got %d of term %d", index, term)
	}
	got := holding(t, s)
	for _, want := range []string{"term 3, vote 3 addr-2\n", "snapshot 30 1 1", "state at 30", "\n90 3 "} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout %q", got, want)
		}
	}
	must(t, s.StoreLogs(entries(91, 92, 3)))
	must(t, s.Close())
}

func TestALogIsCutBackAndGoesOn(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 60, 1)))
	must(t, s.DeleteRange(35, 60))
	must(t, s.StoreLogs(entries(35, 70, 2)))
	must(t, s.DeleteRange(10, 70))
	must(t, s.StoreLogs(entries(10, 50, 4)))
	must(t, s.Close())
	s = opened(t, fsys)
	if got, want := span(replay(t, s)), "1-50, terms [1 4]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	must(t, s.Close())
}

func TestAnEmptiedLogBeginsAnywhere(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 60, 1)))
	must(t, snap(t, s, 200, 2))
	must(t, s.DeleteRange(1, 60))
	must(t, s.Close())
	s = opened(t, fsys)
	if got := span(replay(t, s)); got != "none" {
		t.Errorf("got %s", got)
	}
	if term, index := s.Last(); index != 200 || term != 2 {
		t.Errorf("last: got %d of term %d", index, term)
	}
	must(t, s.StoreLogs(entries(201, 230, 2)))
	must(t, s.Close())
	s = opened(t, fsys)
	if got, want := span(replay(t, s)), "201-230, terms [2]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	must(t, s.Close())
}

// A crash between an installed snapshot and the emptying of the log.
func TestALogThatDoesNotLeadToTheSnapshotIsDropped(t *testing.T) {
	for name, last := range map[string]uint64{"shorter": 20, "of another term": 60} {
		fsys := newFS(t)
		s := made(t, fsys)
		must(t, s.StoreLogs(entries(1, last, 1)))
		must(t, snap(t, s, 50, 2))
		must(t, s.Close())
		s = opened(t, fsys)
		if got := span(replay(t, s)); got != "none" {
			t.Errorf("%s: got %s", name, got)
		}
		must(t, s.StoreLogs(entries(51, 55, 2)))
		must(t, s.Close())
		s = opened(t, fsys)
		if got, want := span(replay(t, s)), "51-55, terms [2]"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		must(t, s.Close())
	}
}

func TestTheFolderBelongsToOneReplica(t *testing.T) {
	fsys := newFS(t)
	if _, err := Open(config(fsys)); !errors.Is(err, ErrNone) {
		t.Errorf("nothing there: got %v", err)
	}
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 3, 1)))
	must(t, s.Close())
	if _, err := Create(config(fsys)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: got %v", err)
	}
	other := config(fsys)
	other.Identity.ID = "replica-2"
	if _, err := Open(other); !errors.Is(err, ErrDamaged) {
		t.Errorf("another's: got %v", err)
	}
	any := config(fsys)
	any.Identity, any.Boot = Identity{}, 7
	s, err := Open(any)
	must(t, err)
	if s.Identity() != self {
		t.Errorf("got %+v", s.Identity())
	}
	must(t, s.Close())
	if id, boot, err := Look(fsys, testDir); err != nil || id != self || boot != 7 {
		t.Errorf("look: got %+v, %d, %v", id, boot, err)
	}
	if _, err := Open(config(fsys)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "node's folder is an old copy") {
		t.Errorf("an older boot: got %v", err)
	}
	later := config(fsys)
	later.Boot, later.Seen = 9, 8
	if _, err := Open(later); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "the folder is an old copy") {
		t.Errorf("an older folder: got %v", err)
	}
	later.Seen = 7
	s, err = Open(later)
	must(t, err)
	must(t, s.Close())
}

func TestSetAside(t *testing.T) {
	fsys := newFS(t)
	for boot := uint64(1); boot <= 4; boot++ {
		s := made(t, fsys)
		must(t, s.Close())
		must(t, SetAside(fsys, testDir, boot))
		must(t, SetAside(fsys, testDir, boot))
	}
	entries, err := fsys.ReadDir("/data")
	must(t, err)
	if len(entries) != asideKept {
		t.Errorf("%d folders are kept", len(entries))
	}
	if _, err := Open(config(fsys)); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := Open(Config{SegmentSize: 1})
	for _, want := range []string{"FS", "Dir", "Boot", "SegmentSize"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func TestFull(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	defer s.Close()
	fsys.SetFree(256 << 20)
	if s.Full() {
		t.Error("full at the floor")
	}
	fsys.SetFree(256<<20 - 1)
	if !s.Full() {
		t.Error("not full under the floor")
	}
}

// failing makes operations of one kind fail.
func failing(fsys *disktest.FS, kind disktest.Kind, err error) {
	fsys.Before(func(op disktest.Op) error {
		if op.Kind == kind {
			return err
		}
		return nil
	})
}

func TestADiskThatFailsRetiresTheIdentity(t *testing.T) {
	acts := map[string]func(*Store) error{
		"append": func(s *Store) error { return s.StoreLogs(entries(11, 12, 1)) },
		"roll":   func(s *Store) error { return s.StoreLogs(entries(11, 60, 1)) },
		"cut":    func(s *Store) error { return s.DeleteRange(5, 10) },
		"term":   func(s *Store) error { return s.SetUint64([]byte(keyTerm), 9) },
		"vote":   func(s *Store) error { return s.Set([]byte(keyCandidate), []byte("x")) },
	}
	for name, act := range acts {
		for kind, fault := range map[disktest.Kind]error{disktest.Sync: syscall.ENOSPC, disktest.Write: syscall.EIO} {
			fsys := newFS(t)
			s := made(t, fsys)
			must(t, s.StoreLogs(entries(1, 10, 1)))
			failing(fsys, kind, fault)
			if err := act(s); !errors.Is(err, ErrDamaged) || errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s, %s fails: got %v", name, kind, err)
			}
			fsys.Before(nil)
			if s.Retired() == nil {
				t.Errorf("%s, %s fails: not retired", name, kind)
			}
			if err := s.StoreLogs(entries(11, 11, 1)); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s fails: stored afterwards: %v", name, kind, err)
			}
			if err := s.SetUint64([]byte(keyTerm), 10); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s fails: term set afterwards: %v", name, kind, err)
			}
			s.Close()
		}
	}
}

// The note that the identity is retired could be written, so the next start
// knows without looking.
func TestARetiredIdentityStaysRetired(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 10, 1)))
	must(t, s.mark.flush())
	failed := false
	fsys.Before(func(op disktest.Op) error {
		if op.Kind == disktest.Sync && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	if err := s.StoreLogs(entries(11, 11, 1)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v", err)
	}
	s.Close()
	if _, err := Open(config(fsys.Clone())); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "retired") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Look(fsys, testDir); !errors.Is(err, ErrDamaged) {
		t.Errorf("look: got %v", err)
	}
}

func TestAFullDiskDoesNothingAndPasses(t *testing.T) {
	for name, kind := range map[string]disktest.Kind{"no room for a segment": disktest.Truncate, "no room for an entry": disktest.Write} {
		fsys := newFS(t)
		s := made(t, fsys)
		must(t, s.StoreLogs(entries(1, 10, 1)))
		fsys.Before(func(op disktest.Op) error {
			if op.Kind == kind {
				if kind == disktest.Write && len(op.Data) > 100 {
					return disktest.Short{N: 100, Err: syscall.ENOSPC}
				}
				return syscall.ENOSPC
			}
			return nil
		})
		if err := s.StoreLogs(entries(11, 60, 1)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := snap(t, s, 10, 1); kind == disktest.Write && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: snapshot: got %v", name, err)
		}
		fsys.Before(nil)
		if err := s.Retired(); err != nil {
			t.Errorf("%s: retired: %v", name, err)
		}
		must(t, s.StoreLogs(entries(11, 20, 1)))
		must(t, s.StoreLogs(entries(21, 70, 1)))
		must(t, s.Close())
		s = opened(t, fsys)
		if got, want := span(replay(t, s)), "1-70, terms [1]"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		must(t, s.Close())
	}
}

func TestASnapshotIsRefused(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, snap(t, s, 50, 2))
	if err := snap(t, s, 40, 2); !errors.Is(err, errOlder) {
		t.Errorf("an older one: got %v", err)
	}
	w, err := s.Snapshots().Create(1, 60, 2, rigConfiguration(), 1, nil)
	must(t, err)
	if _, err := w.Write([]byte("something else")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil || s.Retired() != nil {
		t.Errorf("one that can't be opened: got %v, retired: %v", err, s.Retired())
	}
	must(t, s.Close())
	for _, name := range fsys.Files() {
		if strings.HasSuffix(name, disk.TempSuffix) {
			t.Errorf("left over: %s", name)
		}
	}
	s = opened(t, fsys)
	if got := s.snaps.newest(); got.Index != 50 {
		t.Errorf("newest: got %+v", got)
	}
	must(t, s.Close())
}
