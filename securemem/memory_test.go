package securemem

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"cloakroom"
)

func TestParseLockMode(t *testing.T) {
	for text, want := range map[string]LockMode{"": LockAuto, "auto": LockAuto, "required": LockRequired, "off": LockOff} {
		got, err := ParseLockMode(text)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		if text != "" && got.String() != text {
			t.Errorf("%q prints as %q", text, got)
		}
	}
	for _, text := range []string{"on", "Auto", " off", "true"} {
		if _, err := ParseLockMode(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

// TestConfigReportsEveryFault at once.
func TestConfigReportsEveryFault(t *testing.T) {
	_, err := Open(Config{Lock: 9, Backend: "rot13", Limit: -1})
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"lock mode 9", "rot13", "limit is -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from: %v", want, err)
		}
	}
	if _, err := Open(Config{Lock: LockOff, Backend: BackendMemguard}); err == nil {
		t.Error("a backend with memory.lock off passes")
	}
}

func TestStatusCountsByPurpose(t *testing.T) {
	backends(t, func(t *testing.T, m *Memory) {
		if _, err := m.MapPlain("raft log", 3<<20); err != nil {
			t.Fatal(err)
		}
		s := m.Status()
		if s.Mapped["raft log"] != 3<<20 || s.Locked["raft log"] != 0 || s.Mapped[purposeArena] != 4<<20 {
			t.Errorf("mapped %v, locked %v", s.Mapped, s.Locked)
		}
		locked := m.mode != LockOff
		for _, purpose := range []string{purposeKeys, purposePool, purposeArena} {
			if s.Mapped[purpose] == 0 || (s.Locked[purpose] == s.Mapped[purpose]) != locked {
				t.Errorf("%s: mapped %d, locked %d", purpose, s.Mapped[purpose], s.Locked[purpose])
			}
		}
		if s.Locked[purposeKeys] >= 1<<20 {
			t.Errorf("keys take %d bytes, a mebibyte is too much", s.Locked[purposeKeys])
		}
		if s.ArenaLocked != locked || (s.Erasure == "on") != ErasureOn() || len(s.Hardening) != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestMapPlain(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	b, err := m.MapPlain("log", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 100_000 || cap(b) != 100_000 || !bytes.Equal(b, make([]byte, 100_000)) {
		t.Errorf("%d bytes, cap %d, or not zero", len(b), cap(b))
	}
	b[99_999] = 1
	wantPanic(t, "UnmapPlain of an inner slice", func() { m.UnmapPlain(b[1:]) })
	m.UnmapPlain(b[:10])
	if got := m.Status().Mapped["log"]; got != 0 {
		t.Errorf("%d bytes are still mapped", got)
	}
	wantPanic(t, "second UnmapPlain", func() { m.UnmapPlain(b) })
	for _, n := range []int{-1, 0, 1 << 40} {
		if _, err := m.MapPlain("log", n); err == nil {
			t.Errorf("mapped %d bytes", n)
		}
	}
}

func TestCloseTwiceAndAfter(t *testing.T) {
	backends(t, func(t *testing.T, m *Memory) {
		s := m.Arena().NewSlab("test")
		plain, err := m.MapPlain("log", 4096)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
		m.UnmapPlain(plain)
		if _, err := m.MapPlain("log", 4096); !errors.Is(err, errClosed) {
			t.Errorf("map after close: %v", err)
		}
		if _, err := m.Pool().Get(t.Context(), 1); !errors.Is(err, errClosed) {
			t.Errorf("get after close: %v", err)
		}
		if _, err := m.NewSecret(1); !errors.Is(err, errClosed) {
			t.Errorf("secret after close: %v", err)
		}
		if _, err := m.NewAEAD(make([]byte, KeyBytes)); !errors.Is(err, errClosed) {
			t.Errorf("aead after close: %v", err)
		}
		if _, _, err := s.Alloc(1); !errors.Is(err, cloakroom.ErrMemoryFull) {
			t.Errorf("alloc after close: %v", err)
		}
		if s := m.Status(); len(s.Mapped) != 0 {
			t.Errorf("mapped after close: %v", s.Mapped)
		}
	})
}

// TestDoPassesPanicsOn: erasing must not swallow a failure.
func TestDoPassesPanicsOn(t *testing.T) {
	ran := false
	Do(func() { ran = true })
	if !ran {
		t.Error("Do did not call")
	}
	wantPanic(t, "Do", func() { Do(func() { panic("x") }) })
}
