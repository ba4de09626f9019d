package importer

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"syscall"

	"cloakroom"
	"cloakroom/cmd/cloakroom/rows"
)

// Journal is the map from keys to pseudonyms, and what makes a second run
// change nothing. The map holds acknowledged rows only. While an import is
// unfinished, a secret seed stands beside it in <map>.unfinished, and the
// pseudonym of a key is
//
//	HMAC-SHA-256(seed, key), the first 16 bytes, in the form of a version-4 UUID
//
// so a run that takes up an interrupted one names every row as that did,
// whatever of it was lost. When every outcome is known the seed is destroyed,
// and the pseudonyms are as good as random to whoever has not the map.
type Journal struct {
	path    string
	file    *os.File
	resumed bool // the seed is that of an earlier run
	mac     hash.Hash
	done    map[cloakroom.Pseudonym]struct{} // :: named as by this seed
	sum     [sha256.Size]byte

	mu  sync.Mutex
	out *bufio.Writer
}

const (
	seedSuffix  = ".unfinished"
	pseudonym   = "pseudonym" // second column of a map
	maxKeyBytes = 1024
)

// OpenJournal opens or creates the map at path, for the key column named. It
// takes up an unfinished import, and refuses a map of another column and one
// that another import is writing.
func OpenJournal(path, column string, random io.Reader) (*Journal, error) {
	j, err := openJournal(path, column, random)
	if err != nil {
		return nil, fmt.Errorf("open map %s: %w", path, err)
	}
	return j, nil
}

func openJournal(path, column string, random io.Reader) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{path: path, file: file, done: map[cloakroom.Pseudonym]struct{}{}}
	if err := j.start(column, random); err != nil {
		file.Close()
		return nil, err
	}
	j.out = bufio.NewWriterSize(file, 256<<10)
	return j, nil
}

func (j *Journal) start(column string, random io.Reader) error {
	if err := syscall.Flock(int(j.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.New("another import is writing it: wait for that one")
	}
	seed, resumed, err := loadSeed(j.path+seedSuffix, random)
	if err != nil {
		return err
	}
	j.mac, j.resumed = hmac.New(sha256.New, seed), resumed
	return j.load(column, resumed)
}

// load reads the keys that are done, cuts off a row torn by a crash, and
// leaves the file at its end.
func (j *Journal) load(column string, resumed bool) error {
	csv, err := rows.NewCSV(bufio.NewReader(j.file), ',')
	if err != nil {
		return err
	}
	good := int64(0)
	for n := 0; ; n++ {
		cells, line, _, err := csv.Record()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if !j.endsLine(csv.Offset()) && resumed {
			break // torn: this import names the row again, and in the same way
		}
		switch {
		case len(cells) == 2 && n == 0 && string(cells[0]) == column && string(cells[1]) == pseudonym:
		case n == 0:
			return fmt.Errorf("its first line is not %s,%s: is it the map of another import", column, pseudonym)
		case len(cells) != 2 || !isPseudonym(cells[1]):
			return fmt.Errorf("line %d is not a key and a pseudonym", line)
		default:
			id, _ := j.name(cells[0])
			j.done[id] = struct{}{}
		}
		good = csv.Offset()
	}
	return j.seekEnd(good, column)
}

// endsLine reports whether the byte before offset is a line end.
func (j *Journal) endsLine(offset int64) bool {
	var last [1]byte
	_, err := j.file.ReadAt(last[:], offset-1)
	return err == nil && last[0] == '\n'
}

// seekEnd cuts the file to its good part and makes it end in a line end; an
// empty one gets its header.
func (j *Journal) seekEnd(good int64, column string) error {
	if err := j.file.Truncate(good); err != nil {
		return err
	}
	if _, err := j.file.Seek(good, io.SeekStart); err != nil {
		return err
	}
	var text []byte
	switch {
	case good == 0:
		text = append(appendCell(nil, []byte(column)), ","+pseudonym+"\n"...)
	case !j.endsLine(good):
		text = []byte("\n")
	}
	_, err := j.file.Write(text)
	return err
}

func isPseudonym(text []byte) bool {
	_, err := cloakroom.ParsePseudonym(text)
	return err == nil
}

// name returns the pseudonym of a key under this seed, and whether the map
// held the key when it was opened. It is for one goroutine.
func (j *Journal) name(key []byte) (id cloakroom.Pseudonym, done bool) {
	j.mac.Reset()
	j.mac.Write(key)
	copy(id[:], j.mac.Sum(j.sum[:0]))
	id.SetRandomForm()
	_, done = j.done[id]
	return id, done
}

// Write appends whole rows of acknowledged deposits.
func (j *Journal) Write(rows []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(rows)
}

// finish puts the map on disk, and after that, if every outcome is known,
// removes the seed.
func (j *Journal) finish(complete bool) error {
	err := errors.Join(j.out.Flush(), j.file.Sync())
	if err == nil && complete {
		err = os.Remove(j.path + seedSuffix)
	}
	if err = errors.Join(err, j.file.Close()); err != nil {
		return fmt.Errorf("finish map: %w", err)
	}
	return nil
}

// faultOfKey says why a key can't stand in the map.
func faultOfKey(key []byte) string {
	if len(key) > maxKeyBytes {
		return fmt.Sprintf("longer than %d bytes", maxKeyBytes)
	}
	if bytes.IndexFunc(key, func(r rune) bool { return r < ' ' }) >= 0 {
		return "holds a control character"
	}
	return ""
}

// appendCell appends a cell of CSV, quoted where it must be.
func appendCell(dst, cell []byte) []byte {
	if len(cell) > 0 && !bytes.ContainsAny(cell, "\",\r\n") {
		return append(dst, cell...)
	}
	dst = append(dst, '"')
	dst = append(dst, bytes.ReplaceAll(cell, []byte(`"`), []byte(`""`))...)
	return append(dst, '"')
}
