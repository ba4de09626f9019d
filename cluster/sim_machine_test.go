package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// simCanary stands in every record that clients deposit. It must cross neither
// the network nor a log in clear.
const simCanary = "canary: Wilhelmina Featherstonehaugh"

// simMachine is the state of a shard, with what a simulation needs to see and
// to break.
type simMachine struct {
	stateMachine
	life  *simLife
	shard cloakroom.ShardID
	fail  atomic.Bool  // the next entry finds no memory
	slow  atomic.Int64 // how long an entry takes, nanoseconds
	held  simUntil     // entries wait
	dazed simUntil     // reads wait, with what they copied in their hands
}

// simUntil is a moment up to which something stands still.
type simUntil struct{ at atomic.Pointer[time.Time] }

// stay has it stand still for d from now on; 0: no longer.
func (u *simUntil) stay(d time.Duration) {
	end := time.Now().Add(d)
	u.at.Store(&end)
}

// wait returns when the moment is over, however often it was put off.
func (u *simUntil) wait() {
	for end := u.at.Load(); end != nil && time.Now().Before(*end); end = u.at.Load() {
		<-time.After(min(time.Until(*end), 50*time.Millisecond))
	}
}

// Apply implements [Machine].
func (m *simMachine) Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	if d := m.slow.Load(); d > 0 {
		<-time.After(time.Duration(d))
	}
	m.held.wait()
	if m.fail.Load() {
		return results, errors.New("no memory left")
	}
	m.life.world.truth.once(m.shard, index, batch)
	results, err := m.stateMachine.Apply(index, batch, results)
	if err == nil {
		m.note()
	}
	return results, err
}

// Read implements [Machine].
func (m *simMachine) Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records) {
	m.stateMachine.Read(tokens, spans, dst)
	m.dazed.wait()
}

// Restore implements [Machine].
func (m *simMachine) Restore(r io.Reader) error {
	err := m.stateMachine.Restore(r)
	if err == nil {
		m.note()
	}
	return err
}

// note compares what was applied with what others applied.
func (m *simMachine) note() {
	stats := m.Stats()
	m.life.world.truth.applied(m.life, m.shard, stats.Applied, stats.Hash)
}

// simSealed masks what is written to it: what a snapshot holds must not be
// seen where it is kept.
type simSealed struct{ w io.Writer }

func (s simSealed) Write(p []byte) (int, error) {
	masked := make([]byte, len(p))
	for i, b := range p {
		masked[i] = b ^ 0xa5
	}
	return s.w.Write(masked)
}

func (s simSealed) Close() error { return nil }

// simOpened undoes it.
type simOpened struct{ r io.Reader }

func (s simOpened) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xa5
	}
	return n, err
}

// simLogs hands out log memory and looks through it when it comes back.
type simLogs struct {
	truth *simTruth
	mu    sync.Mutex
	out   map[*byte][]byte
}

func (l *simLogs) take(n int) ([]byte, error) {
	mem := make([]byte, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out[&mem[0]] = mem
	return mem, nil
}

func (l *simLogs) give(mem []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.out, &mem[0])
	l.look(mem)
}

// lookAll looks through all that is out.
func (l *simLogs) lookAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, mem := range l.out {
		l.look(mem)
	}
}

func (l *simLogs) look(mem []byte) {
	if bytes.Contains(mem, []byte(simCanary)) {
		l.truth.violated("a log holds plaintext")
	}
}

// simLog keeps the newest log lines of all nodes, with the bubble's time.
type simLog struct {
	truth *simTruth
	mu    sync.Mutex
	lines [][]byte
}

const simLogLines = 400

func newSimLog(truth *simTruth) *simLog { return &simLog{truth: truth} }

// logger returns the one for a life of a node.
func (l *simLog) logger(node string) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			a.Value = slog.StringValue(a.Value.Time().Format("04:05.000"))
		}
		return a
	}})).With("at", node)
}

// Write implements [io.Writer].
func (l *simLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(simCanary)) {
		l.truth.violated("a log line holds plaintext")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == simLogLines {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, bytes.Clone(line))
	return len(line), nil
}

func (l *simLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}
