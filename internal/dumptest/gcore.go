package dumptest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoRights means that this machine or user may not dump the process.
var ErrNoRights = errors.New("may not attach to the process")

// Dump writes a core file of the process into dir and returns its path. The
// process stands still while gdb copies its memory. Regions that ask to be
// left out of dumps (MADV_DONTDUMP) are taken too: the test is about an
// attacker, and secretmem must not need the flag. What cannot be read at all,
// secretmem above all, is missing from the file.
func Dump(ctx context.Context, pid int, dir, name string) (string, error) {
	prefix := filepath.Join(dir, name)
	out, err := exec.CommandContext(ctx, "gcore", "-a", "-o", prefix, strconv.Itoa(pid)).CombinedOutput()
	if bytes.Contains(out, []byte("ptrace: ")) || bytes.Contains(out, []byte("Could not attach")) {
		return "", fmt.Errorf("%w: %s", ErrNoRights, firstLine(out))
	}
	if err != nil {
		return "", fmt.Errorf("run gcore: %w: %s", err, firstLine(out))
	}
	return prefix + "." + strconv.Itoa(pid), nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// FindAESKeys runs aeskeyfind (Halderman et al., Lest we remember, 2008) over
// a file of memory; see [Condense]. It recognises key schedules of AES-128 and AES-256, whoever
// made them, so it also finds keys that the test does not know.
func FindAESKeys(ctx context.Context, core string) ([][]byte, error) {
	out, err := exec.CommandContext(ctx, "aeskeyfind", "-q", core).Output()
	if err != nil {
		return nil, fmt.Errorf("run aeskeyfind: %w", err)
	}
	var keys [][]byte
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("read aeskeyfind: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
