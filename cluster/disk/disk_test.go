package disk_test

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"cloakroom/cluster/disk"
	"cloakroom/cluster/disk/disktest"
)

// both runs a test on the machine's file system and on the one of tests: what
// holds for one must hold for the other.
func both(t *testing.T, test func(t *testing.T, fsys disk.FS, dir string)) {
	t.Run("machine", func(t *testing.T) { test(t, disk.OS(), t.TempDir()) })
	t.Run("memory", func(t *testing.T) { test(t, disktest.New(), "/") })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, fsys disk.FS, dir string) {
		folder := filepath.Join(dir, "a", "b")
		check(t, fsys.MkdirAll(folder))
		check(t, fsys.MkdirAll(folder))
		name := filepath.Join(folder, "file")
		f, err := fsys.Create(name)
		check(t, err)
		check(t, f.Allocate(10))
		_, err = f.WriteAt([]byte("xy"), 8)
		check(t, err)
		_, err = f.Write([]byte("ab"))
		check(t, err)
		check(t, f.Allocate(4))
		check(t, f.Sync())
		check(t, f.Close())
		check(t, fsys.SyncDir(folder))
		if _, err := fsys.Create(name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create again: got %v", err)
		}
		got, err := fsys.ReadFile(name)
		if want := "ab\x00\x00\x00\x00\x00\x00xy"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		info, err := fsys.Stat(name)
		check(t, err)
		if info.Mode().Perm() != 0o600 || info.Size() != 10 {
			t.Errorf("got %v, %d bytes", info.Mode(), info.Size())
		}
		if info, err = fsys.Stat(folder); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			t.Errorf("folder: got %v, %v", info.Mode(), err)
		}
		readOnly, err := fsys.Open(name)
		check(t, err)
		defer readOnly.Close()
		if _, err := readOnly.Write([]byte("z")); err == nil {
			t.Error("wrote to a file opened to read")
		}
		if n, err := readOnly.ReadAt(make([]byte, 4), 8); n != 2 || err != io.EOF {
			t.Errorf("read at the end: got %d, %v", n, err)
		}
	})
}

func TestNames(t *testing.T) {
	both(t, func(t *testing.T, fsys disk.FS, dir string) {
		for _, name := range []string{"b", "a"} {
			check(t, disk.Replace(fsys, filepath.Join(dir, name), []byte(name)))
		}
		check(t, fsys.MkdirAll(filepath.Join(dir, "d")))
		check(t, disk.Replace(fsys, filepath.Join(dir, "d", "x"), nil))
		entries, err := fsys.ReadDir(dir)
		check(t, err)
		var names string
		for _, entry := range entries {
			names += entry.Name()
		}
		if names != "abd" {
			t.Errorf("got %q", names)
		}
		check(t, fsys.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
		if got, err := fsys.ReadFile(filepath.Join(dir, "b")); err != nil || string(got) != "a" {
			t.Errorf("renamed: got %q, %v", got, err)
		}
		check(t, fsys.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")))
		if _, err := fsys.Stat(filepath.Join(dir, "e", "x")); err != nil {
			t.Errorf("file of a renamed folder: %v", err)
		}
		if err := fsys.Remove(filepath.Join(dir, "e")); err == nil {
			t.Error("removed a folder with a file in it")
		}
		check(t, fsys.RemoveAll(filepath.Join(dir, "e")))
		check(t, fsys.RemoveAll(filepath.Join(dir, "e")))
		for _, name := range []string{"e", "a"} {
			if _, err := fsys.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v", name, err)
			}
			if err := fsys.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("remove %s: got %v", name, err)
			}
		}
		if _, err := fsys.Create(filepath.Join(dir, "none", "x")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("create in no folder: got %v", err)
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys disk.FS, dir string) {
		name := filepath.Join(dir, "lock")
		held, err := fsys.Lock(name)
		check(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, disk.ErrLocked) {
			t.Errorf("second: got %v", err)
		}
		check(t, held.Close())
		again, err := fsys.Lock(name)
		check(t, err)
		check(t, again.Close())
	})
}

func TestFree(t *testing.T) {
	both(t, func(t *testing.T, fsys disk.FS, dir string) {
		if n, err := fsys.Free(dir); err != nil || n == 0 {
			t.Errorf("got %d, %v", n, err)
		}
	})
}
