//go:build linux

package hosts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Land is a network of hosts, each a network namespace with one interface, all
// on one bridge in a namespace of its own. Nothing of it is seen from outside,
// so that several can stand beside each other.
type Land struct {
	t      testing.TB
	prefix string
	hosts  map[string]*Host
}

// Host is one of them.
type Host struct {
	land *Land
	name string
	ns   string
	IP   string
}

// namePrefix begins the names of all namespaces; the process that made one
// follows.
const namePrefix = "cloakroom-"

// NewLand makes a network without hosts. The test is skipped where that can't
// be.
func NewLand(t testing.TB) *Land {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("network namespaces take root on Linux")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces take the program ip (iproute2)")
	}
	sweep(t)
	var random [3]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	l := &Land{t: t, hosts: map[string]*Host{}}
	l.prefix = fmt.Sprintf("%s%d-%s-", namePrefix, os.Getpid(), hex.EncodeToString(random[:]))
	if out, err := exec.Command("ip", "netns", "add", l.bridge()).CombinedOutput(); err != nil {
		t.Skipf("network namespaces can't be made here: %v: %s", err, out)
	}
	t.Cleanup(l.remove)
	l.ip("-n", l.bridge(), "link", "add", "br0", "type", "bridge")
	l.ip("-n", l.bridge(), "link", "set", "br0", "up")
	return l
}

// sweep removes what processes left behind that were killed.
func sweep(t testing.TB) {
	names, _ := filepath.Glob("/run/netns/" + namePrefix + "*")
	for _, name := range names {
		name = filepath.Base(name)
		text, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
		pid, err := strconv.Atoi(text)
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
				t.Logf("remove namespace: %v: %s", err, out)
			}
		}
	}
}

func (l *Land) bridge() string { return l.prefix + "bridge" }

// ip runs the program of that name.
func (l *Land) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (l *Land) remove() {
	for _, h := range l.hosts {
		l.drop(h.ns)
	}
	l.drop(l.bridge())
}

func (l *Land) drop(ns string) {
	if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
		l.t.Errorf("remove namespace: %v: %s", err, out)
	}
}

// Host returns the host of that name, made if there is none yet.
func (l *Land) Host(name string) *Host {
	l.t.Helper()
	if h := l.hosts[name]; h != nil {
		return h
	}
	n := len(l.hosts) + 1
	h := &Host{land: l, name: name, ns: l.prefix + name, IP: fmt.Sprintf("10.77.%d.%d", n/250, 1+n%250)}
	l.hosts[name] = h // from here on it is removed
	port := fmt.Sprintf("v%d", n)
	l.ip("netns", "add", h.ns)
	l.ip("-n", l.bridge(), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.ns)
	l.ip("-n", l.bridge(), "link", "set", port, "master", "br0", "up")
	l.ip("-n", h.ns, "link", "set", "lo", "up")
	l.ip("-n", h.ns, "addr", "add", h.IP+"/16", "dev", "eth0")
	l.ip("-n", h.ns, "link", "set", "eth0", "up")
	return h
}

// nobody is a hardware address that no interface has.
const nobody = "02:00:00:00:00:01"

// CutOneWay has everything that one host sends to another disappear, as a
// broken cable would have it: nobody is told. What the other sends arrives.
func (l *Land) CutOneWay(from, to string) {
	l.t.Helper()
	l.ip("-n", l.Host(from).ns, "neigh", "replace", l.Host(to).IP, "lladdr", nobody, "dev", "eth0", "nud", "permanent")
}

// HealOneWay undoes CutOneWay.
func (l *Land) HealOneWay(from, to string) {
	l.t.Helper()
	l.ip("-n", l.Host(from).ns, "neigh", "del", l.Host(to).IP, "dev", "eth0")
}

// Cut cuts both ways between two hosts.
func (l *Land) Cut(a, b string) { l.t.Helper(); l.CutOneWay(a, b); l.CutOneWay(b, a) }

// Heal undoes Cut.
func (l *Land) Heal(a, b string) { l.t.Helper(); l.HealOneWay(a, b); l.HealOneWay(b, a) }

// Command prepares a program that runs on the host.
func (h *Host) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.ns, program}, args...)...)
}

// Address returns where a server of the host is.
func (h *Host) Address(role Role) string {
	return net.JoinHostPort(h.IP, map[Role]string{API: "8200", Operator: "8201", Cluster: "8202"}[role])
}

// Dial connects from the host. The address is one of IP.
func (h *Host) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.inside(func() error {
		var dial net.Dialer
		conn, err = dial.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens on the host.
func (h *Host) Listen(addr string) (l net.Listener, err error) {
	err = h.inside(func() error {
		l, err = net.Listen("tcp", addr)
		return err
	})
	return l, err
}

// inside calls f on a thread in the namespace of the host. A socket stays where
// it was made.
func (h *Host) inside(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	away, err := os.Open("/run/netns/" + h.ns)
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic("no way back from a namespace: " + err.Error())
		}
	}()
	return f()
}
