package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"cloakroom/client"
)

// known is the file with the fingerprints of servers that were met before, by
// address. It holds nothing secret; whoever could change it could have a token
// sent to the wrong place, so it is for its owner only.
type known struct {
	path string

	mu      sync.Mutex
	servers map[string]server
}

// server is what is known of an address. Cluster is what counts once it is
// known: nodes get new keys, the authority of a cluster stays.
type server struct {
	Node    string `json:"node,omitempty"`
	Cluster string `json:"cluster,omitempty"`
}

// knownFile is the format on disk.
type knownFile struct {
	Format  int               `json:"format"` // 1
	Servers map[string]server `json:"servers"`
}

const maxKnown = 1 << 20 // bytes

// readKnown reads the file; none is an empty one.
func readKnown() (*known, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder for settings: %w (set XDG_CONFIG_HOME)", err)
	}
	k := &known{path: filepath.Join(folder, "cloakroom", "known.json"), servers: map[string]server{}}
	info, err := os.Stat(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read known servers: %w", err)
	}
	if info.Size() > maxKnown {
		return nil, fmt.Errorf("read known servers: %s is too large", k.path)
	}
	text, err := os.ReadFile(k.path)
	if err != nil {
		return nil, fmt.Errorf("read known servers: %w", err)
	}
	var file knownFile
	if err := json.Unmarshal(text, &file); err != nil || file.Format != 1 {
		return nil, fmt.Errorf("read known servers: %s is not what this program writes; move it away and give --fingerprint once more", k.path)
	}
	for addr, s := range file.Servers {
		k.servers[addr] = s
	}
	return k, nil
}

// peer decides who is at addr: the server with the given fingerprint, or else
// the one that was there before, or else a node of a cluster that is known by
// another of its nodes.
func (k *known) peer(addr, given string) func(node, cluster string) error {
	return func(node, cluster string) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		met := server{node, cluster}
		before, there := k.servers[addr]
		switch {
		case given != "":
			if err := client.Pin(addr, given)(node, cluster); err != nil {
				return err
			}
		case there:
			if err := client.Pin(addr, before.pin())(node, cluster); err != nil {
				return err
			}
			if cluster == "" {
				met.Cluster = before.Cluster
			}
		case cluster == "" || !k.hasCluster(cluster):
			return client.Pin(addr, "")(node, cluster)
		}
		if met == before {
			return nil
		}
		k.servers[addr] = met
		return k.save()
	}
}

// pin is what a server is held to.
func (s server) pin() string {
	if s.Cluster != "" {
		return s.Cluster
	}
	return s.Node
}

func (k *known) hasCluster(fingerprint string) bool {
	for _, s := range k.servers {
		if s.Cluster == fingerprint {
			return true
		}
	}
	return false
}

// has reports whether anything is known of addr.
func (k *known) has(addr string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, there := k.servers[addr]
	return there
}

// hasHost reports whether the cluster of a server on that host is known, at
// whatever port.
func (k *known) hasHost(addr string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	host, _, err := net.SplitHostPort(addr)
	for at, s := range k.servers {
		other, _, bad := net.SplitHostPort(at)
		if err == nil && bad == nil && other == host && s.Cluster != "" {
			return true
		}
	}
	return false
}

// remember notes the fingerprints of a node that this user runs.
func (k *known) remember(addr, node, cluster string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	met := server{node, cluster}
	if node == "" || k.servers[addr] == met {
		return nil
	}
	k.servers[addr] = met
	return k.save()
}

// save replaces the file at once, so that nobody reads half of it.
func (k *known) save() error {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("write known servers: %w", err)
	}
	text, err := json.MarshalIndent(knownFile{1, k.servers}, "", "  ")
	if err != nil {
		return fmt.Errorf("write known servers: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), "known-*") // 0600
	if err != nil {
		return fmt.Errorf("write known servers: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone if all went well
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write known servers: %w", err)
	}
	if err := os.Rename(f.Name(), k.path); err != nil {
		return fmt.Errorf("write known servers: %w", err)
	}
	return nil
}
