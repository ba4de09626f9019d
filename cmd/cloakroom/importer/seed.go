package importer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The seed file, format 1, is one line of text:
//
//	cloakroom import 1 <64 hex digits>
const (
	seedHead  = "cloakroom import 1 "
	seedBytes = 32
	seedFile  = len(seedHead) + 2*seedBytes + 1
)

// loadSeed reads the seed of an unfinished import, or makes one that is on
// disk when it returns.
func loadSeed(path string, random io.Reader) (seed []byte, resumed bool, err error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, false, err
	case len(text) < seedFile: // it was never on disk as a whole, so nothing was sent under it
	default:
		digits, ok := strings.CutPrefix(strings.TrimSuffix(string(text), "\n"), seedHead)
		seed, err := hex.DecodeString(digits)
		if !ok || err != nil || len(seed) != seedBytes {
			return nil, false, fmt.Errorf("%s is no file of this program: move it away", path)
		}
		return seed, true, nil
	}
	seed = make([]byte, seedBytes)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, false, fmt.Errorf("draw seed: %w", err)
	}
	return seed, false, writeSeed(path, seedHead+hex.EncodeToString(seed)+"\n")
}

// writeSeed writes the file and waits until it and its name are on disk.
func writeSeed(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
