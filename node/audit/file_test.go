package audit_test

import (
	"os"
	"path/filepath"
	"testing"

	"cloakroom/node/audit"
)

func put(t *testing.T, f audit.File, text string) {
	t.Helper()
	if n, err := f.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func openFile(t *testing.T, path string) audit.File {
	t.Helper()
	f, err := audit.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFileIsPrivateAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	put(t, openFile(t, path), "one\n")
	put(t, openFile(t, path), "two\n")
	if got := content(t, path); got != "one\ntwo\n" {
		t.Errorf("content %q", got)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v, want 0600", mode)
	}
}

func TestFileThatEndsInHalfALineStartsANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("whole\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, openFile(t, path), "next\n")
	if got := content(t, path); got != "whole\nhal\nnext\n" {
		t.Errorf("content %q", got)
	}
}

func TestFileThatWasMovedIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	f := openFile(t, path)
	put(t, f, "one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "two\n")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	put(t, f, "three\n")
	if old, now := content(t, path+".1"), content(t, path); old != "one\ntwo\n" || now != "three\n" {
		t.Errorf("moved file %q, new file %q", old, now)
	}
}

func TestFileInAMissingFolderIsAnError(t *testing.T) {
	if f, err := audit.OpenFile(filepath.Join(t.TempDir(), "none", "audit.log")); err == nil {
		t.Errorf("opened %v", f)
	}
}
