// Package server runs the servers that the benchmark measures: child
// processes on loopback, watched through /proc, paused while another one is
// measured, and stopped by their own process id.
//
// A [Server] is safe for concurrent use, except for Stop.
package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to run.
type Config struct {
	Name    string
	Command []string // program and arguments
	Env     []string // added to the environment
	Addr    string   // host:port where it will listen
	// Files are inherited as descriptors 3, 4, …
	Files []*os.File
	// ReadyTimeout bounds the start; default 30 s.
	ReadyTimeout time.Duration
}

// Server is a running child process.
type Server struct {
	cfg   Config
	cmd   *exec.Cmd
	ready time.Duration
	log   tail
	done  chan struct{} // closed when the process has ended
}

// Start runs the command and waits until it prints a line with the word
// "ready", which Cloakroom and Redis both do.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if len(cfg.Command) == 0 || cfg.Name == "" {
		return nil, errors.New("start server: no command or no name")
	}
	if cfg.ReadyTimeout == 0 {
		cfg.ReadyTimeout = 30 * time.Second
	}
	s := &Server{cfg: cfg, done: make(chan struct{})}
	s.cmd = exec.Command(cfg.Command[0], cfg.Command[1:]...)
	s.cmd.Env = append(os.Environ(), cfg.Env...)
	s.cmd.ExtraFiles = cfg.Files
	s.cmd.Stderr = &s.log
	s.cmd.SysProcAttr = dieWithParent()
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}
	ready := make(chan struct{})
	go s.watch(stdout, ready) // ends with the process
	if err := s.awaitReady(ctx, ready); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start %s: %w: %s", cfg.Name, err, s.log.String())
	}
	s.ready = time.Since(start)
	return s, nil
}

func (s *Server) awaitReady(ctx context.Context, ready <-chan struct{}) error {
	limit := time.NewTimer(s.cfg.ReadyTimeout)
	defer limit.Stop()
	select {
	case <-ready:
		return nil
	case <-s.done:
		return errors.New("it ended before it was ready")
	case <-limit.C:
		return fmt.Errorf("not ready after %v", s.cfg.ReadyTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch reads what the process prints until it ends.
func (s *Server) watch(stdout io.Reader, ready chan<- struct{}) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if ready != nil && strings.Contains(strings.ToLower(line), "ready") {
			close(ready)
			ready = nil
		}
		s.log.Write([]byte(line))
		if err != nil {
			break
		}
	}
	s.cmd.Wait()
	close(s.done)
}

// Name returns the name it was given.
func (s *Server) Name() string { return s.cfg.Name }

// Addr returns where it listens.
func (s *Server) Addr() string { return s.cfg.Addr }

// PID returns the process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// ReadyAfter returns how long it took from the start to the ready line.
func (s *Server) ReadyAfter() time.Duration { return s.ready }

// Log returns the end of what it printed.
func (s *Server) Log() string { return s.log.String() }

// Pause stops the process from running, so that an idle server takes nothing
// from the one that is measured.
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process run again.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// stopTime is how long a process may take to end by itself.
const stopTime = 10 * time.Second

// Stop ends the process and waits until it is gone.
func (s *Server) Stop() {
	s.cmd.Process.Signal(syscall.SIGCONT)
	s.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(stopTime)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		s.cmd.Process.Kill()
		<-s.done
	}
}

// FreeAddr returns a loopback address that nobody listens on just now.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail keeps the last bytes of a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if cut := len(t.buf) - tailBytes; cut > 0 {
		t.buf = append(t.buf[:0], t.buf[cut:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
