//go:build linux

package hosts

import (
	"fmt"
	"os"
	"strings"
)

// Resources are what the process of a node holds of the machine.
type Resources struct {
	Threads     int
	Descriptors int
	Locked      int64 // bytes
}

// Resources reads what the node holds, from the kernel.
func (n *Node) Resources() (r Resources, err error) {
	folder := fmt.Sprintf("/proc/%d/", n.Process().cmd.Process.Pid)
	open, err := os.ReadDir(folder + "fd")
	if err != nil {
		return r, err
	}
	r.Descriptors = len(open)
	status, err := os.ReadFile(folder + "status")
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "Threads: %d", &r.Threads) //nolint:errcheck // most lines are others
		if _, err := fmt.Sscanf(line, "VmLck: %d", &r.Locked); err == nil {
			r.Locked <<= 10
		}
	}
	return r, err
}
