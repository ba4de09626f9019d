package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"

	"cloakroom/cluster/disk/disktest"
)

// lived returns a disk with the marks of a life: several segments, one cut back
// and gone on from, a snapshot, a vote. It ends with a clean Close.
func lived(t *testing.T) *disktest.FS {
	t.Helper()
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.SetUint64([]byte(keyTerm), 1))
	must(t, s.StoreLogs(entries(1, 10, 1)))
	must(t, s.StoreLogs(entries(11, 30, 1)))
	must(t, snap(t, s, 12, 1))
	must(t, s.DeleteRange(1, 11)) // and with it the first segment
	must(t, s.DeleteRange(25, 30))
	must(t, s.SetUint64([]byte(keyTerm), 2))
	must(t, s.SetUint64([]byte(keyVoteTerm), 2))
	must(t, s.Set([]byte(keyCandidate), []byte("addr-3")))
	must(t, s.StoreLogs(entries(25, 27, 2)))
	for index := uint64(28); index <= 45; index++ {
		must(t, s.StoreLogs(entries(index, index, 2)))
	}
	must(t, s.Close())
	return fsys.Image()
}

// undamaged opens a disk and holds it against what it should hold. It returns
// whether the damage was detected; if not, nothing may differ.
func detected(t *testing.T, fsys *disktest.FS, want string) (bool, error) {
	s, err := Open(config(fsys))
	switch {
	case errors.Is(err, ErrDamaged) || errors.Is(err, ErrNone):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("neither damage nor fine: %w", err)
	}
	defer s.Close()
	if got := holding(t, s); got != want {
		return false, fmt.Errorf("taken for sound, with %d lines instead of %d", strings.Count(got, "\n"), strings.Count(want, "\n"))
	}
	return false, nil
}

func whole(t *testing.T, fsys *disktest.FS) string {
	t.Helper()
	s := opened(t, fsys.Image())
	defer s.Close()
	return holding(t, s)
}

// What is flipped in any byte of any file is found, or makes no difference: the
// other place of a slot holds the same, or nothing stood there.
func TestEveryFlippedByteIsFoundOrHarmless(t *testing.T) {
	sound := lived(t)
	want := whole(t, sound)
	flips, found := 0, 0
	fsys := sound.Image()
	untouched := len(fsys.Ops())
	for _, name := range sound.Files() {
		data := sound.Peek(name)
		for off, b := range data {
			if b == 0 && off%61 != 0 && (off < 8 || bytes.Equal(data[off-8:min(off+8, len(data))], make([]byte, min(16, len(data)-off+8)))) {
				continue // deep in zeros, a few will do
			}
			if raceDetector && off%16 != 0 {
				continue
			}
			fsys.Poke(name, int64(off), []byte{b ^ byte(1<<(off%8))})
			hit, err := detected(t, fsys, want)
			if fsys.Poke(name, int64(off), []byte{b}); len(fsys.Ops()) != untouched {
				fsys = sound.Image() // something was mended
			}
			if err != nil {
				t.Fatalf("%s, byte %d of %d: %v", name, off, len(data), err)
			}
			flips++
			if hit {
				found++
			}
			if must := b != 0 && strings.HasSuffix(name, segmentSuffix); must && !hit && !supersededAt(t, sound, name, off) {
				t.Errorf("%s, byte %d of %d: not found", name, off, len(data))
			}
		}
	}
	t.Logf("%d bytes flipped, %d found, %d without effect", flips, found, flips-found)
}

// supersededAt reports whether a byte of a segment counts no more: a later
// segment took the place of its record.
func supersededAt(t *testing.T, fsys *disktest.FS, name string, off int) bool {
	t.Helper()
	content := fsys.Peek(name)
	g, err := decodeSegment(content, self)
	must(t, err)
	next := ^uint64(0)
	for _, other := range fsys.Files() {
		if strings.HasSuffix(other, segmentSuffix) && other > name {
			later, err := decodeSegment(fsys.Peek(other), self)
			must(t, err)
			next = min(next, later.base)
		}
	}
	records, _ := scan(content, g)
	at := segmentHeader
	for _, r := range records {
		if r.Index >= next {
			return off >= at
		}
		at += recordSize(&r.Log)
	}
	return false
}

func TestEveryLostSectorIsFoundOrHarmless(t *testing.T) {
	sound := lived(t)
	want := whole(t, sound)
	for _, name := range sound.Files() {
		for off := 0; off < len(sound.Peek(name)); off += 512 {
			fsys := sound.Image()
			fsys.Poke(name, int64(off), make([]byte, 512))
			if _, err := detected(t, fsys, want); err != nil {
				t.Errorf("%s, sector at %d: %v", name, off, err)
			}
		}
	}
}

func TestEveryShorterFileIsFoundOrHarmless(t *testing.T) {
	sound := lived(t)
	want := whole(t, sound)
	for _, name := range sound.Files() {
		for off := 0; off < len(sound.Peek(name)); off += 37 {
			fsys := sound.Image()
			fsys.Poke(name, int64(off), nil)
			if _, err := detected(t, fsys, want); err != nil {
				t.Errorf("%s, cut off at %d: %v", name, off, err)
			}
		}
	}
}

func TestEveryLostFileIsFound(t *testing.T) {
	sound := lived(t)
	for _, name := range sound.Files() {
		fsys := sound.Image()
		fsys.Drop(name)
		s, err := Open(config(fsys))
		if err == nil {
			s.Close()
		}
		want := ErrDamaged
		if path.Base(name) == labelName {
			want = ErrNone
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// A folder put back from an older copy, file by file: whoever rolls back the
// log alone is found. All of it together only the boot number tells.
func TestAnOlderLogUnderANewerMarkIsFound(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 5, 1)))
	must(t, s.Close())
	old := fsys.Image()
	s = opened(t, fsys)
	must(t, s.StoreLogs(entries(6, 9, 1)))
	must(t, s.Close())
	for _, name := range fsys.Files() {
		if strings.HasSuffix(name, segmentSuffix) {
			fsys.Poke(name, 0, old.Peek(name))
		}
	}
	if _, err := Open(config(fsys)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "reached 9") {
		t.Errorf("got %v", err)
	}
}

func TestAnEntryThatCannotBeOpenedIsDamage(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	log := entry(1, 1)
	log.Data = []byte("in clear")
	must(t, s.StoreLogs(append(entries(1, 1, 1)[:0], log)))
	must(t, s.Close())
	if _, err := Open(config(fsys)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "open entry 1") {
		t.Errorf("got %v", err)
	}
}

// An entry in the middle of what the mark does not cover yet, and one that was
// written after it.
func TestAValidRecordBeyondTheEndIsDamage(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 3, 1)))
	must(t, s.mark.flush())
	s.mark.halt() // the mark stays behind
	must(t, s.StoreLogs(entries(4, 5, 1)))
	must(t, s.StoreLogs(entries(6, 6, 1)))
	name := s.log.live[0].name
	at := segmentHeader
	for _, log := range entries(1, 3, 1) {
		at += recordSize(log)
	}
	second := at + recordSize(entry(4, 1))
	killed := func(off int) error {
		fsys := fsys.Image()
		fsys.Poke(name, int64(off), []byte{'?'})
		s, err := Open(config(fsys))
		if err == nil {
			s.Close()
		}
		return err
	}
	for what, off := range map[string]int{"first of its batch": at, "second of its batch": second} {
		if err := killed(off); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "written after it") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	// The last write, alone, may have been cut short.
	if err := killed(second + recordSize(entry(5, 1))); err != nil {
		t.Errorf("last: got %v", err)
	}
	must(t, s.Close())
}

// A process that dies right after an fsync failed finds the entry in the page
// cache when it starts again. No later fsync makes that page durable.
func TestWhatAFailedFsyncLeftIsWrittenAgain(t *testing.T) {
	fsys := newFS(t)
	s := made(t, fsys)
	must(t, s.StoreLogs(entries(1, 5, 1)))
	must(t, s.mark.flush())
	fsys.Before(func(op disktest.Op) error { // and nothing more reaches the disk
		if op.Kind == disktest.Read || op.Kind == disktest.Write && strings.HasSuffix(strings.TrimSuffix(op.Path, ".tmp"), segmentSuffix) {
			return nil
		}
		return syscall.EIO
	})
	if err := s.StoreLogs(entries(6, 7, 1)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v", err)
	}
	s.Close()
	again := fsys.Clone()
	s = opened(t, again)
	if got, want := span(replay(t, s)), "1-7, terms [1]"; got != want {
		t.Fatalf("page cache: got %s, want %s", got, want)
	}
	must(t, s.StoreLogs(entries(8, 8, 1)))
	must(t, s.Close())
	s = opened(t, again.Crash(len(again.Ops()), disktest.Nothing()))
	if got, want := span(replay(t, s)), "1-8, terms [1]"; got != want {
		t.Errorf("after a power cut: got %s, want %s", got, want)
	}
	must(t, s.Close())
}

func TestADiskThatCannotBeReadIsDamage(t *testing.T) {
	sound := lived(t)
	for _, name := range sound.Files() {
		fsys := sound.Image()
		fsys.Before(func(op disktest.Op) error {
			if op.Kind == disktest.Read && op.Path == name {
				return syscall.EIO
			}
			return nil
		})
		s, err := Open(config(fsys))
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
