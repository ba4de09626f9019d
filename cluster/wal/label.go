package wal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cloakroom/cluster/disk"
)

// The files of a folder beside the segments and the snapshots.
const (
	labelName   = "identity.json" // whose folder it is; without it there is no replica
	termName    = "term"
	markName    = "mark"
	retiredName = "retired" // why the identity must not be used; there is none unless it was retired
)

const format = 1

// label is the content of identity.json: one line of JSON and one with the hex
// SHA-256 of the first.
type label struct {
	Format int `json:"format"`
	Identity
	Boot uint64 `json:"boot"` // the latest that opened the folder
}

func encodeLabel(l label) []byte {
	line, err := json.Marshal(l)
	if err != nil {
		panic(err) // strings and numbers
	}
	sum := sha256.Sum256(line)
	return fmt.Appendf(line, "\n%x\n", sum)
}

func decodeLabel(data []byte) (label, error) {
	var l label
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(line)
	if string(rest) != hex.EncodeToString(sum[:])+"\n" {
		return l, fmt.Errorf("%w: checksum of %s", ErrDamaged, labelName)
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return l, fmt.Errorf("%w: %s: %w", ErrDamaged, labelName, err)
	}
	if l.Format != format {
		return l, fmt.Errorf("%s has format %d, this version knows %d", labelName, l.Format, format)
	}
	if !bytes.Equal(encodeLabel(l), data) {
		return l, fmt.Errorf("%w: %s says more than this version wrote", ErrDamaged, labelName)
	}
	return l, nil
}

func readLabel(fsys disk.FS, dir string) (label, error) {
	data, err := fsys.ReadFile(filepath.Join(dir, labelName))
	if errors.Is(err, fs.ErrNotExist) {
		return label{}, ErrNone
	}
	if err != nil {
		return label{}, err
	}
	return decodeLabel(data)
}

func writeLabel(fsys disk.FS, dir string, l label) error {
	return disk.Replace(fsys, filepath.Join(dir, labelName), encodeLabel(l))
}

// admit refuses a folder of another replica, and one that is older or newer
// than the node it is in.
func (l *label) admit(cfg *Config) error {
	if cfg.Identity != (Identity{}) && cfg.Identity != l.Identity {
		return fmt.Errorf("%w: the folder is replica %s of %s, generation %d", ErrDamaged, l.ID, l.Group, l.Generation)
	}
	if l.Boot > cfg.Boot {
		return fmt.Errorf("%w: used at boot %d, this is boot %d: the node's folder is an old copy", ErrDamaged, l.Boot, cfg.Boot)
	}
	if l.Boot < cfg.Seen {
		return fmt.Errorf("%w: last used at boot %d, it was at boot %d: the folder is an old copy", ErrDamaged, l.Boot, cfg.Seen)
	}
	return nil
}

// Look returns whose folder it is and the latest boot that opened it, without
// opening it. It returns [ErrNone] or [ErrDamaged] as they say.
func Look(fsys disk.FS, dir string) (Identity, uint64, error) {
	l, err := readLabel(fsys, dir)
	if err == nil {
		err = notRetired(fsys, dir)
	}
	if err != nil {
		return Identity{}, 0, fmt.Errorf("look at replica folder %s: %w", dir, err)
	}
	return l.Identity, l.Boot, nil
}

// create makes all files, the identity's last.
func create(cfg *Config) error {
	if _, err := readLabel(cfg.FS, cfg.Dir); !errors.Is(err, ErrNone) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	if err := cfg.FS.RemoveAll(cfg.Dir); err != nil {
		return err
	}
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return err
	}
	for _, name := range []string{termName, markName} {
		if err := createSlots(cfg.FS, filepath.Join(cfg.Dir, name)); err != nil {
			return err
		}
	}
	if err := writeLabel(cfg.FS, cfg.Dir, label{Format: format, Identity: cfg.Identity, Boot: cfg.Boot}); err != nil {
		return err
	}
	return cfg.FS.SyncDir(filepath.Dir(cfg.Dir))
}

// notRetired refuses a folder whose identity was retired.
func notRetired(fsys disk.FS, dir string) error {
	reason, err := fsys.ReadFile(filepath.Join(dir, retiredName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: retired: %s", ErrDamaged, bytes.TrimSpace(reason))
}

func noteRetired(fsys disk.FS, dir string, reason error) error {
	return disk.Replace(fsys, filepath.Join(dir, retiredName), []byte(reason.Error()+"\n"))
}

// dropTemps removes what a crash left half written.
func dropTemps(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), disk.TempSuffix) {
			if err := fsys.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// asideKept is how many folders set aside are kept for whoever wants to know
// what happened.
const asideKept = 2

// SetAside takes the folder of a retired identity out of the way: it is renamed
// to dir + ".aside-" + boot, and older ones are removed. Nothing reads it
// again. A folder that is not there is no error.
func SetAside(fsys disk.FS, dir string, boot uint64) error {
	failed := func(err error) error { return fmt.Errorf("set %s aside: %w", dir, err) }
	parent, prefix := filepath.Dir(dir), filepath.Base(dir)+".aside-"
	to := fmt.Sprintf("%s%020d", prefix, boot)
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := fsys.RemoveAll(filepath.Join(parent, to)); err != nil { // twice within one boot
		return failed(err)
	}
	if err := fsys.Rename(dir, filepath.Join(parent, to)); err != nil {
		return failed(err)
	}
	if err := fsys.SyncDir(parent); err != nil {
		return failed(err)
	}
	entries, err := fsys.ReadDir(parent)
	if err != nil {
		return failed(err)
	}
	var aside []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			aside = append(aside, entry.Name())
		}
	}
	for _, name := range aside[:max(0, len(aside)-asideKept)] {
		if err := fsys.RemoveAll(filepath.Join(parent, name)); err != nil {
			return failed(err)
		}
	}
	return nil
}
