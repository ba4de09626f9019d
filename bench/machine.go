package bench

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Machine is what the figures were measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Redis  string `json:"redis"`
}

// machine describes this one; what cannot be told is "unknown".
func machine(ctx context.Context, cfg Config) Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version(), Redis: "none"}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if cfg.Redis != "" {
		if out, err := exec.CommandContext(ctx, cfg.Redis, "--version").Output(); err == nil {
			for word := range bytes.FieldsSeq(out) {
				if version, is := bytes.CutPrefix(word, []byte("v=")); is {
					m.Redis = string(version)
				}
			}
		}
	}
	return m
}
