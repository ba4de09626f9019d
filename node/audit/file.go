package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// diskFile appends to a file by name. When the file was moved or deleted, by
// log rotation or by mistake, the next Sync starts a new one under the name.
type diskFile struct {
	path string

	mu sync.RWMutex // held shared by Write and fsync, alone by a change of file
	f  *os.File
}

// OpenFile opens the file at path for appending and creates it with mode 0600
// if there is none. The mode of a file that is there stays as it is.
func OpenFile(path string) (File, error) {
	f, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	return &diskFile{path: path, f: f}, nil
}

// openAppend opens path. A file that ends in the middle of a line, left by a
// crash, gets its newline first.
func openAppend(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open audit file: %w", err)
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open audit file: %w", err), f.Close())
	}
	return f, nil
}

func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

func (d *diskFile) Write(lines []byte) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.f.Write(lines)
}

// Sync makes what was written durable, then looks whether the name still
// belongs to the file.
func (d *diskFile) Sync() error {
	d.mu.RLock()
	err := d.sync(d.f)
	moved := d.moved()
	d.mu.RUnlock()
	if !moved {
		return err
	}
	return errors.Join(err, d.reopen())
}

// sync lets pipes and terminals pass, which have nothing to sync.
func (d *diskFile) sync(f *os.File) error {
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	return f.Sync()
}

func (d *diskFile) moved() bool {
	there, err := os.Stat(d.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	mine, err := d.f.Stat()
	return err == nil && !os.SameFile(there, mine)
}

// reopen changes to a new file. What was written to the old one since its
// last fsync is made durable before it is let go.
func (d *diskFile) reopen() error {
	next, err := openAppend(d.path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.f
	d.f = next
	return errors.Join(d.sync(old), old.Close())
}

func (d *diskFile) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.f.Close()
}
