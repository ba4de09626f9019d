//go:build linux

package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs until it is stopped.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // after done: what Wait said

	mu  sync.Mutex
	out bytes.Buffer // both outputs
}

// Write takes what the process prints.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// Log returns what it has printed.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// printed reports whether it has printed a text.
func (p *Process) printed(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.out.Bytes(), []byte(text))
}

// start runs a command at a place, to be killed with the test.
func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which Kill ends
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Kill ends the process at once (SIGKILL), and waits until it has.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Pause and Resume are SIGSTOP and SIGCONT.
func (p *Process) Pause()  { p.signal(syscall.SIGSTOP) }
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// Hangup is SIGHUP.
func (p *Process) Hangup() { p.signal(syscall.SIGHUP) }

func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be another's now
	default:
		p.cmd.Process.Signal(s) //nolint:errcheck // it has ended meanwhile
	}
}

// errStays means that a process does not end.
var errStays = errors.New("it does not end")

// Stop ends the process in order (SIGTERM) and returns why it could not, or
// with what it ended.
func (p *Process) Stop(patience time.Duration) error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return errStays
	}
}

// Ended returns whether it has, and its exit code then.
func (p *Process) Ended() (code int, ended bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// AwaitEnd waits until the process has ended by itself and returns its code.
func (p *Process) AwaitEnd(t testing.TB, patience time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("after %v it still runs:\n%s", patience, p.Log())
		return 0
	}
}

// AwaitLine waits until the process has printed a text.
func (p *Process) AwaitLine(t testing.TB, text string, patience time.Duration) {
	t.Helper()
	Await(t, patience, func() error {
		if strings.Contains(p.Log(), text) {
			return nil
		}
		if code, ended := p.Ended(); ended {
			t.Fatalf("it ended with %d and did not print %q:\n%s", code, text, p.Log())
		}
		return fmt.Errorf("it has not printed %q:\n%s", text, p.Log())
	})
}

// Await waits until a condition says nothing against it.
func Await(t testing.TB, patience time.Duration, met func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	limit, tick := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for {
		err := met()
		if err == nil {
			return time.Since(begun)
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// run runs a command to its end and returns what it printed and its exit code.
func run(ctx context.Context, cmd *exec.Cmd) (stdout, stderr string, code int) {
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err.Error(), -1
	}
	return out.String(), trouble.String(), cmd.ProcessState.ExitCode()
}
