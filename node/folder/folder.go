// Package folder owns what a node keeps on disk beside its logs: who it is,
// where its peers are, its TLS key and certificate, and the encrypted keyring.
// DESIGN.md draws it.
//
// It sees no PII and no key but the node's TLS key; the keyring is ciphertext
// when it gets here. One process at a time works on a folder: [Open] and
// [Create] take a lock that ends with [Folder.Close], and with the process.
//
// A Folder is safe for concurrent use.
package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"cloakroom/cluster/disk"
)

// The files of a folder, and its folders.
const (
	nodeFile        = "node.json"
	keyFile         = "node.key"
	certificateFile = "node.crt"
	keyringFile     = "keyring.age"
	foundingFile    = "founding.json"
	membersFile     = "members.json"
	lockFile        = "lock"
	directoryDir    = "directory"
)

var (
	// ErrTaken says that another process works on the folder.
	ErrTaken = errors.New("another process runs on this folder")
	// ErrNone says that no node was made in the folder.
	ErrNone = errors.New("no node in this folder: make one with 'cloakroom node init', or join with --join-token-file")
	// ErrExists says that a node was made in the folder before.
	ErrExists = errors.New("a node is in this folder already")
	// ErrMissing says that the folder has not got that file.
	ErrMissing = errors.New("the folder does not have it")
)

// Folder is an open folder of a node.
type Folder struct {
	fs   disk.FS
	dir  string
	lock io.Closer

	mu     sync.Mutex // held while node.json is replaced
	node   Node
	closed bool
}

// Create makes the folder dir, if need be, with a node in it. It returns
// [ErrExists] for a folder that has one and [ErrTaken] for one that is open.
func Create(fsys disk.FS, dir string, node Node) (*Folder, error) {
	node.Format = Format
	if err := node.check(); err != nil {
		return nil, fmt.Errorf("create folder %s: %w", dir, err)
	}
	if err := errors.Join(fsys.MkdirAll(dir), fsys.SyncDir(filepath.Dir(dir))); err != nil {
		return nil, fmt.Errorf("create folder: %w", err)
	}
	f, err := claim(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("create folder %s: %w", dir, err)
	}
	_, err = f.read(nodeFile)
	if err == nil {
		err = ErrExists
	} else if errors.Is(err, ErrMissing) {
		err = f.save(node)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create folder %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// Open opens the folder of a node. It returns [ErrNone] where there is no node
// and [ErrTaken] for a folder that is open.
func Open(fsys disk.FS, dir string) (*Folder, error) {
	if _, err := fsys.ReadFile(filepath.Join(dir, nodeFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open folder %s: %w", dir, ErrNone) // and nothing is left there
	}
	f, err := claim(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", dir, err)
	}
	data, err := f.read(nodeFile)
	if err == nil {
		err = f.node.decode(data)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open folder %s: %s: %w", dir, nodeFile, err), f.Close())
	}
	return f, nil
}

func claim(fsys disk.FS, dir string) (*Folder, error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, disk.ErrLocked):
		return nil, ErrTaken
	case err != nil:
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &Folder{fs: fsys, dir: dir, lock: lock}, nil
}

// Close gives the lock back.
func (f *Folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return f.lock.Close()
}

// Dir returns where the folder is.
func (f *Folder) Dir() string { return f.dir }

// Node returns what node.json says. The slices in it must not be written to.
func (f *Folder) Node() Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.node
}

// Update changes node.json and returns once the change is on disk. After an
// error it counts as not made, though a crash may show it.
func (f *Folder) Update(change func(*Node)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.node
	change(&next)
	next.Format = Format
	if err := next.check(); err != nil {
		return fmt.Errorf("change %s: %w", nodeFile, err)
	}
	return f.save(next)
}

// save writes node.json; f.mu is held, or f not shared yet.
func (f *Folder) save(node Node) error {
	data, err := node.encode()
	if err != nil {
		return err
	}
	if err := f.write(nodeFile, data); err != nil {
		return err
	}
	f.node = node
	return nil
}

// DirectoryDir returns the folder for the logs of this node's replicas of the
// directory. It need not exist.
func (f *Folder) DirectoryDir() string { return filepath.Join(f.dir, directoryDir) }

// KeyringFile returns where the encrypted keyring is, or will be.
func (f *Folder) KeyringFile() string { return filepath.Join(f.dir, keyringFile) }

// FS returns the file system that the folder is on.
func (f *Folder) FS() disk.FS { return f.fs }

// Key returns the node's TLS key, PEM of PKCS #8.
func (f *Folder) Key() ([]byte, error) { return f.read(keyFile) }

// SaveKey writes the TLS key. It refuses to replace one with [ErrExists]: the
// directory knows the node by it.
func (f *Folder) SaveKey(pem []byte) error {
	if _, err := f.read(keyFile); !errors.Is(err, ErrMissing) {
		return errors.Join(fmt.Errorf("save %s: %w", keyFile, ErrExists), err)
	}
	return f.write(keyFile, pem)
}

// Certificate returns the node's certificate and what signed it, PEM.
func (f *Folder) Certificate() ([]byte, error) { return f.read(certificateFile) }

// SaveCertificate replaces the certificate.
func (f *Folder) SaveCertificate(pem []byte) error { return f.write(certificateFile, pem) }

// Keyring returns the encrypted keyring.
func (f *Folder) Keyring() ([]byte, error) { return f.read(keyringFile) }

// SaveKeyring replaces the encrypted keyring.
func (f *Folder) SaveKeyring(sealed []byte) error { return f.write(keyringFile, sealed) }

// Members returns what the node remembers of the other nodes.
func (f *Folder) Members() ([]byte, error) { return f.read(membersFile) }

// SaveMembers replaces it.
func (f *Folder) SaveMembers(data []byte) error { return f.write(membersFile, data) }

// Founding returns what 'node init' left for the first start.
func (f *Folder) Founding() ([]byte, error) { return f.read(foundingFile) }

// SaveFounding writes what the first start needs.
func (f *Folder) SaveFounding(data []byte) error { return f.write(foundingFile, data) }

// DropFounding removes it; it is no error if it is gone.
func (f *Folder) DropFounding() error {
	if err := f.fs.Remove(filepath.Join(f.dir, foundingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", foundingFile, err)
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("remove %s: %w", foundingFile, err)
	}
	return nil
}

// read returns a file, [ErrMissing] if it is not there.
func (f *Folder) read(name string) ([]byte, error) {
	data, err := f.fs.ReadFile(filepath.Join(f.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", name, ErrMissing)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// write replaces a file; it is on disk when write returns.
func (f *Folder) write(name string, data []byte) error {
	if err := disk.Replace(f.fs, filepath.Join(f.dir, name), data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
