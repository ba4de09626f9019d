package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for user space.
const ticksPerSecond = 100

// CPU returns the processor time the process used so far, its threads
// included, user and system (utime + stime of proc_pid_stat(5)).
func (s *Server) CPU() (time.Duration, error) { return CPUOf(s.PID()) }

// CPUOf returns the processor time that a process used so far.
func CPUOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read cpu: %w", err)
	}
	return parseStat(stat)
}

// parseStat reads fields 14 and 15. The second field, the command, may hold
// spaces and parentheses, so fields count from its last parenthesis.
func parseStat(stat []byte) (time.Duration, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read cpu: short stat")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("read cpu: %w", err)
	}
	return time.Duration(user+system) * (time.Second / ticksPerSecond), nil
}

// RSS returns the resident memory of the process in bytes: VmRSS of
// proc_pid_status(5), which is anonymous, file and shared memory together, so
// that pages of memfd_secret count.
func (s *Server) RSS() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return 0, fmt.Errorf("read rss: %w", err)
	}
	return parseStatus(status, "VmRSS:")
}

func parseStatus(status []byte, key string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read rss: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("read rss: no %s", key)
}

// Memory stands still when it stays within settleBand of itself; nobody waits
// longer than settleLimit for that.
const (
	settleStep  = 100 * time.Millisecond
	settleLimit = 30 * time.Second
	settleBand  = 0.002
)

// SettledRSS returns the resident memory once it has stood still for so long.
func (s *Server) SettledRSS(ctx context.Context, still time.Duration) (int64, error) {
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	start := time.Now()
	var base int64
	since := start
	for {
		rss, err := s.RSS()
		if err != nil {
			return 0, err
		}
		if diff := rss - base; max(diff, -diff) > int64(settleBand*float64(base)) {
			base, since = rss, time.Now()
		}
		if time.Since(since) >= still || time.Since(start) >= settleLimit {
			return rss, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
