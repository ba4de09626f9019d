// Package nodefile reads the configuration file of a node: one YAML document,
// every key of which stands in one table with its default, what it means and
// how its text is checked. The reference in docs/configuration.md is made from
// the same table.
//
// It reports all faults of a file at once, each with its line. It holds no
// secret: tokens, shares and keys never stand in a configuration file. What a
// value is taken for is decided elsewhere; nothing here is safe to change
// while somebody else reads it.
package nodefile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// MaxBytes bounds a configuration file.
const MaxBytes = 64 << 10

// File is what stands in a configuration file, defaults filled in. Paths are
// absolute, or relative to where the file is if [Parse] was told where that is.
type File struct {
	Path string // of the file itself, as it was named

	Node struct {
		Name, Zone string
		Data       string // folder
	}
	API struct {
		Listen    string // host:port
		Advertise string // URL or host:port for callers; may be empty
		TLS       string // "internal" or ""; "" with a certificate, or without TLS
		Cert, Key string // PEM files
		Linger    time.Duration
	}
	Operator struct {
		Listen string // host:port, or unix:/path
	}
	Cluster struct {
		Listen, Advertise string // host:port
		Replication       int
		Shards            int
		Installs          int // at once, to one node
		DeadAfter         time.Duration
		HandoverWindow    time.Duration
	}
	Recovery struct {
		Mode string
	}
	Memory struct {
		Lock  string
		Limit int64 // bytes
	}
	Audit struct {
		File      string
		OnFailure string // "deny" or "count"
	}
	Limits struct {
		Connections, Requests, Streams, StreamsEach int
	}
	Log struct {
		Level  string // "debug", "info", "warn" or "error"
		Format string // "text" or "json"
	}

	lines map[string]int // of the keys that stand in the file
}

// Given returns the line of a key such as "cluster.shards", and whether it
// stands in the file at all: a setting of the whole cluster that a joining
// node leaves out is taken from the cluster.
func (f *File) Given(key string) (line int, given bool) {
	line, given = f.lines[key]
	return line, given
}

// TLSFiles reports whether the front door has a certificate of its own.
func (f *File) TLSFiles() bool { return f.API.Cert != "" }

// OperatorSocket returns the path of the unix socket of the operator listener,
// "" if it is a TCP one.
func (f *File) OperatorSocket() string { return socketOf(f.Operator.Listen) }

// Read reads the file at path. The error is [Faults] if the file could be read
// and is not right.
func Read(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer in.Close() //nolint:errcheck // it was read only
	text, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("read configuration: %s has more than %d bytes", path, MaxBytes)
	}
	return Parse(path, text)
}

// Parse reads text, which stands in the file at path. Relative paths in it are
// taken from the folder of that file.
func Parse(path string, text []byte) (*File, error) {
	f := &File{Path: path, lines: map[string]int{}}
	p := &reader{file: f, settings: map[string]*setting{}, sections: map[string]bool{}}
	for _, s := range settings(f) {
		p.add(&s)
	}
	p.document(text)
	p.check()
	if len(p.faults) > 0 {
		return nil, Faults{Path: path, List: p.sorted()}
	}
	if err := f.anchor(); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return f, nil
}

// anchor makes the paths absolute.
func (f *File) anchor() error {
	folder, err := filepath.Abs(filepath.Dir(f.Path))
	if err != nil {
		return fmt.Errorf("find the folder of %s: %w", f.Path, err)
	}
	for _, path := range []*string{&f.Node.Data, &f.API.Cert, &f.API.Key, &f.Audit.File} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
	return nil
}
