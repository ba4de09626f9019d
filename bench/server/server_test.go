package server

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func shell(t *testing.T, script string, files ...*os.File) (*Server, error) {
	t.Helper()
	s, err := Start(t.Context(), Config{Name: "sh", Command: []string{"sh", "-c", script}, Files: files, ReadyTimeout: 10 * time.Second})
	if err == nil {
		t.Cleanup(s.Stop)
	}
	return s, err
}

func TestStartWaitsForReady(t *testing.T) {
	s, err := shell(t, "echo starting; echo Ready to serve; read x; exit 0")
	if err != nil {
		t.Fatal(err)
	}
	if s.ReadyAfter() <= 0 || s.PID() == 0 {
		t.Errorf("got ready after %v, pid %d", s.ReadyAfter(), s.PID())
	}
}

func TestStartTellsWhyNot(t *testing.T) {
	_, err := shell(t, "echo no such flag >&2; exit 2")
	if err == nil || !strings.Contains(err.Error(), "no such flag") {
		t.Errorf("got %v, want what the process said", err)
	}
	if _, err := Start(t.Context(), Config{Name: "x", Command: []string{"/no/such/program"}}); err == nil {
		t.Error("started a program that does not exist")
	}
	if _, err := Start(t.Context(), Config{}); err == nil {
		t.Error("started nothing")
	}
	if _, err := Start(t.Context(), Config{Name: "slow", Command: []string{"sh", "-c", "read x"}, Files: nil, ReadyTimeout: time.Millisecond}); err == nil {
		t.Error("waited for ever")
	}
}

func TestFilesAreInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := shell(t, "echo hello >&3; echo ready; exec sleep 60", w)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var line string
	if _, err := fmt.Fscanln(r, &line); err != nil || line != "hello" {
		t.Errorf("got %q, %v from descriptor 3", line, err)
	}
	s.Stop()
}

func TestUsageOfAProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	s, err := shell(t, "echo ready; while :; do :; done")
	if err != nil {
		t.Fatal(err)
	}
	limit := time.Now().Add(20 * time.Second)
	for used := time.Duration(0); used < 30*time.Millisecond; {
		if used, err = s.CPU(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(limit) {
			t.Fatalf("a busy loop used %v", used)
		}
	}
	if rss, err := s.RSS(); err != nil || rss < 100<<10 {
		t.Errorf("got %d bytes resident, %v", rss, err)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	s.Stop() // a paused process too
	if _, err := s.CPU(); err == nil {
		t.Error("the process is still there")
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("7 (a) b (c) R 1 7 7 0 -1 4194304 88 0 0 0 125 75 0 0 20 0"))
	if err != nil || got != 2*time.Second {
		t.Errorf("got %v, %v, want 2s", got, err)
	}
	for _, bad := range []string{"", "7 (x) R 1", "7 (a) R 1 7 7 0 -1 4194304 88 0 0 0 x 75 0"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestSettledRSS(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	s, err := shell(t, "echo ready; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	if rss, err := s.SettledRSS(t.Context(), 200*time.Millisecond); err != nil || rss <= 0 {
		t.Errorf("got %d, %v", rss, err)
	}
}
