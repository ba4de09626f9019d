package disktest

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"cloakroom/cluster/disk"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seeded(seed uint64) func(int) int { return rand.New(rand.NewPCG(seed, seed)).IntN }

// put writes a file without making anything durable.
func put(t *testing.T, f *FS, name, content string) disk.File {
	t.Helper()
	file, err := f.Create(name)
	must(t, err)
	_, err = file.Write([]byte(content))
	must(t, err)
	return file
}

func read(t *testing.T, f *FS, name string) string {
	t.Helper()
	data, err := f.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	must(t, err)
	return string(data)
}

func TestACrashKeepsWhatWasMadeDurable(t *testing.T) {
	f := New()
	must(t, f.MkdirAll("/d"))
	must(t, f.SyncDir("/"))
	file := put(t, f, "/d/a", "one")
	if got := read(t, f.Crash(len(f.Ops()), Nothing()), "/d/a"); got != "(none)" {
		t.Errorf("nothing durable: got %q", got)
	}
	if got := read(t, f.Crash(len(f.Ops()), Everything()), "/d/a"); got != "one" {
		t.Errorf("a killed process: got %q", got)
	}
	must(t, file.Sync())
	if got := read(t, f.Crash(len(f.Ops()), Nothing()), "/d/a"); got != "(none)" {
		t.Errorf("name not durable: got %q", got)
	}
	must(t, f.SyncDir("/d"))
	_, err := file.WriteAt([]byte("two"), 0)
	must(t, err)
	after := f.Crash(len(f.Ops()), Nothing())
	if got := read(t, after, "/d/a"); got != "one" {
		t.Errorf("overwritten: got %q", got)
	}
	if got := read(t, after.Crash(len(after.Ops()), Nothing()), "/d/a"); got != "one" {
		t.Errorf("after a second crash: got %q", got)
	}
	must(t, f.Rename("/d/a", "/d/b"))
	if got := read(t, f.Crash(len(f.Ops()), Nothing()), "/d/a"); got != "one" {
		t.Errorf("rename not durable: got %q", got)
	}
}

func TestASyncThatFailedNeverMakesDurable(t *testing.T) {
	f := New()
	file := put(t, f, "/a", "one")
	must(t, f.SyncDir("/"))
	f.Before(func(op Op) error {
		if op.Kind == Sync {
			return syscall.EIO
		}
		return nil
	})
	if err := file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	f.Before(nil)
	must(t, file.Sync())
	if got := read(t, f, "/a"); got != "one" {
		t.Errorf("page cache: got %q", got)
	}
	if got := read(t, f.Crash(len(f.Ops()), Nothing()), "/a"); got != "" {
		t.Errorf("disk: got %q", got)
	}
}

func TestSomeTearsWritesAtSectors(t *testing.T) {
	f := New()
	file := put(t, f, "/a", "")
	must(t, file.Allocate(4*sector))
	must(t, file.Sync())
	must(t, f.SyncDir("/"))
	_, err := file.WriteAt(bytes.Repeat([]byte("x"), 4*sector-1), 1)
	must(t, err)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := read(t, f.Crash(len(f.Ops()), Some(seeded(seed))), "/a")
		if len(got) != 4*sector {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
		shape := ""
		for i := range 4 {
			shape += got[i*sector+1 : i*sector+2]
		}
		seen[shape] = true
	}
	if len(seen) != 16 {
		t.Errorf("got %d of 16 ways to tear", len(seen))
	}
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	f := New()
	must(t, f.MkdirAll("/d"))
	must(t, f.SyncDir("/"))
	must(t, disk.Replace(f, "/d/a", []byte("old")))
	from := len(f.Ops())
	must(t, disk.Replace(f, "/d/a", []byte("new")))
	for n := from; n <= len(f.Ops()); n++ {
		for seed := range uint64(20) {
			got := read(t, f.Crash(n, Some(seeded(seed))), "/d/a")
			if got != "new" && (got != "old" || n == len(f.Ops())) {
				t.Errorf("after %d operations, seed %d: got %q", n, seed, got)
			}
		}
	}
}

func TestReplaceLeavesTheOldOnAnError(t *testing.T) {
	for _, kind := range []Kind{Create, Write, Sync, Rename} {
		f := New()
		must(t, disk.Replace(f, "/a", []byte("old")))
		f.Before(func(op Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		if err := disk.Replace(f, "/a", []byte("new")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v", kind, err)
		}
		f.Before(nil)
		if got := read(t, f, "/a"); got != "old" {
			t.Errorf("%s: got %q", kind, got)
		}
		if len(f.Files()) != 1 {
			t.Errorf("%s: files left: %v", kind, f.Files())
		}
	}
}
