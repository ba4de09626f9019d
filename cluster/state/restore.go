package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"

	"cloakroom"
	"cloakroom/cluster/command"
)

// ErrStream is what [Machine.Restore] returns for a stream that is not a whole
// state of format 1.
var ErrStream = errors.New("not a valid state stream")

// Restore replaces the state by that of a stream. The new state is built
// beside the old one, checked to the last byte, and put in its place at once;
// reads are answered from the old one until then. It needs memory for both.
//
// On an error, [ErrStream], cloakroom.ErrMemoryFull or the reader's, the old
// state stays. A machine that stopped stays stopped.
func (m *Machine) Restore(r io.Reader) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if err := m.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	x, err := newIndex(m.slab)
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	l := loader{machine: m, index: x, in: bufio.NewReaderSize(r, 64<<10), sha: sha256.New()}
	if err := l.load(); err != nil {
		m.drop(x)
		return fmt.Errorf("restore state: %w", err)
	}
	m.mu.Lock()
	old, h := m.index, &l.header
	m.index, m.applied, m.hash, m.time, m.schema = x, h.applied, h.hash, h.time, h.schema
	m.counts = l.counts
	m.mu.Unlock()
	if m.watch != nil {
		m.watch.Restored(h.applied)
	}
	m.drop(old)
	return nil
}

// drop frees all that an index refers to, and the index, a segment at a time.
// Views keep what they hold.
func (m *Machine) drop(x *index) {
	for _, s := range x.segments(nil) {
		m.mu.Lock()
		for b := range s.buckets {
			for i := range bucketEntries {
				if ref := s.bucket(b).ref(i); ref != 0 {
					m.free(ref)
				}
			}
		}
		x.release(s)
		m.mu.Unlock()
	}
}

// loader fills an index from a stream.
type loader struct {
	machine *Machine
	index   *index
	in      *bufio.Reader
	sha     hash.Hash
	header  header
	record  []byte

	last   cloakroom.Token
	counts counts
	links  [command.Alias + 1]int // by kind: those that subjects list, less those that are there
}

func (l *loader) load() error {
	var head [headerBytes]byte
	if err := l.read(head[:]); err != nil {
		return err
	}
	var ok bool
	if l.header, ok = decodeHeader(&head); !ok {
		return fmt.Errorf("%w: header", ErrStream)
	}
	for i := range l.header.records {
		if err := l.loadRecord(i == 0); err != nil {
			return err
		}
	}
	if uint64(l.counts.living) != l.header.living || uint64(l.counts.erased) != l.header.erased ||
		l.links != ([command.Alias + 1]int{}) {
		return fmt.Errorf("%w: counts", ErrStream)
	}
	return l.checkEnd()
}

// loadRecord reads one record and adds it to the index.
func (l *loader) loadRecord(first bool) error {
	var head [recordHead]byte
	if err := l.read(head[:]); err != nil {
		return err
	}
	token, length, mark, ok := decodeRecordHead(&head)
	if !ok || !first && bytes.Compare(l.last[:], token[:]) >= 0 {
		return fmt.Errorf("%w: record", ErrStream)
	}
	l.last = token
	l.record = append(l.record[:0], make([]byte, length)...)
	if err := l.read(l.record); err != nil {
		return err
	}
	expiry := uint32(0)
	if mark&subject != 0 {
		var err error
		if expiry, err = l.countSubject(); err != nil {
			return err
		}
	}
	return l.add(&token, mark, expiry)
}

// countSubject looks into what is stored as a subject and returns its expiry,
// if it is a living one.
func (l *loader) countSubject() (expiry uint32, err error) {
	if _, err := command.DecodeHandle(l.record); err == nil {
		l.counts.linked++
		l.links[command.Handle]--
		return 0, nil
	}
	s, err := command.DecodeSubject(l.record)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: subject record", ErrStream)
	case s.Alias:
		l.counts.linked++
		l.links[command.Alias]--
	case s.Erased:
		l.counts.erased++
	default:
		l.counts.living++
		for i := range s.Links.Len() {
			kind, _ := s.Links.At(i)
			l.links[kind]++
		}
		expiry = s.Expiry
	}
	return expiry, nil
}

func (l *loader) add(token *cloakroom.Token, m mark, expiry uint32) error {
	l.machine.mu.Lock()
	defer l.machine.mu.Unlock()
	k := newKey(token)
	if err := l.index.reserve(&k, 1); err != nil {
		return err
	}
	ref, slot, err := l.machine.slab.Alloc(slotHead + len(l.record))
	if err != nil {
		return err
	}
	if err := l.index.insert(&k, ref, m|fillSlot(slot, token, l.record), expiry); err != nil {
		l.machine.slab.Free(ref)
		return err
	}
	return nil
}

// checkEnd compares the checksum and makes sure that nothing follows it.
func (l *loader) checkEnd() error {
	var want, got [sha256.Size]byte
	l.sha.Sum(want[:0])
	if err := l.read(got[:]); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
		return fmt.Errorf("%w: checksum", ErrStream)
	}
	switch _, err := l.in.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: it goes on behind its end", ErrStream)
	default:
		return err
	}
}

// read fills b from the stream.
func (l *loader) read(b []byte) error {
	if _, err := io.ReadFull(l.in, b); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends early", ErrStream)
	} else if err != nil {
		return err
	}
	l.sha.Write(b)
	return nil
}
