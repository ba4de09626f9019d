package directory

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"cloakroom"
)

// MaxErasures bounds the ledger, in rows: one for each subject erased, and one
// for each field erased from a subject.
const MaxErasures = 1 << 20

// row is one entry of the ledger, in memory as in a snapshot. Big-endian:
//
//	offset  bytes  what
//	0       16     token of the subject record
//	16      2      field; 0: the whole subject
//	18      2      shard
//	20      4      generation of the shard
//	24      8      index in the shard
//	32      6      shard time, unix milliseconds
//
// The first four tell rows apart: there is one row for each of them.
type row [rowBytes]byte

const (
	rowBytes = 38
	keyBytes = 24
)

// row returns the row of e for a field.
func (e *Erasure) row(f cloakroom.FieldNumber) (r row) {
	copy(r[:], e.Subject[:])
	binary.BigEndian.PutUint16(r[16:], uint16(f))
	binary.BigEndian.PutUint16(r[18:], uint16(e.Shard))
	binary.BigEndian.PutUint32(r[20:], e.Generation)
	binary.BigEndian.PutUint64(r[24:], e.Index)
	binary.BigEndian.PutUint16(r[32:], uint16(e.At>>32))
	binary.BigEndian.PutUint32(r[34:], uint32(e.At))
	return r
}

// erasure returns what r says.
func (r *row) erasure() Erasure {
	e := Erasure{
		Subject:    cloakroom.Token(r[:16]),
		Shard:      cloakroom.ShardID(binary.BigEndian.Uint16(r[18:])),
		Generation: binary.BigEndian.Uint32(r[20:]),
		Index:      r.index(),
		At:         int64(binary.BigEndian.Uint16(r[32:]))<<32 | int64(binary.BigEndian.Uint32(r[34:])),
	}
	if f := r.field(); f != cloakroom.SubjectField {
		e.Fields = []cloakroom.FieldNumber{f}
	}
	return e
}

func (r *row) key() [keyBytes]byte { return [keyBytes]byte(r[:keyBytes]) }

func (r *row) field() cloakroom.FieldNumber {
	return cloakroom.FieldNumber(binary.BigEndian.Uint16(r[16:]))
}

func (r *row) index() uint64 { return binary.BigEndian.Uint64(r[24:]) }

// whole returns the key of the row that says the whole subject was erased.
func (r *row) whole() [keyBytes]byte {
	key := r.key()
	key[16], key[17] = 0, 0
	return key
}

// chunkRows is how many rows are copied at once, when a snapshot still holds
// those that a command changes.
const chunkRows = 256

type chunk struct {
	era  uint64 // of the ledger when the chunk was made
	rows [chunkRows]row
}

// ledger is the list of erasures: rows in the order they came, a changed one
// in its old place. Whoever reads takes the chunks as they are; the writer
// copies those that somebody may hold before it changes them.
//
// A ledger is safe for concurrent use.
type ledger struct {
	mu     sync.Mutex
	era    uint64 // chunks of an earlier one may be held
	chunks []*chunk
	count  int
	places []uint32 // open addressing: 1 + position of a row, 0 for none; a power of two
}

// enter takes rows in, all of them or none if they are too many. It reports
// whether the ledger says anything more than before.
func (l *ledger) enter(rows []row) (changed, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := 0
	for i := range rows {
		if !l.covers(&rows[i]) && l.find(rows[i].key()) < 0 {
			fresh++ // twice for one that the command has twice: then it is refused a little early
		}
	}
	if l.count+fresh > MaxErasures {
		return false, true
	}
	for i := range rows {
		if r := &rows[i]; !l.covers(r) {
			l.put(r)
			changed = true
		}
	}
	return changed, false
}

// covers reports whether the ledger says already what r says: the subject is
// erased as a whole, or the field was at that index or later.
func (l *ledger) covers(r *row) bool {
	if l.find(r.whole()) >= 0 {
		return true
	}
	at := l.find(r.key())
	return at >= 0 && l.at(at).index() >= r.index()
}

// put writes r over the row of its key, or appends it.
func (l *ledger) put(r *row) {
	if at := l.find(r.key()); at >= 0 {
		*l.own(at) = *r
		return
	}
	if l.count == len(l.chunks)*chunkRows {
		l.chunks = append(l.chunks, &chunk{era: l.era})
	}
	if 4*(l.count+1) > 3*len(l.places) {
		l.grow()
	}
	l.count++
	*l.own(l.count - 1) = *r
	l.place(l.count - 1)
}

// at returns a row to read.
func (l *ledger) at(i int) *row { return &l.chunks[i/chunkRows].rows[i%chunkRows] }

// own returns a row to write: in a chunk that nobody else holds.
func (l *ledger) own(i int) *row {
	c := l.chunks[i/chunkRows]
	if c.era != l.era {
		mine := &chunk{era: l.era, rows: c.rows}
		l.chunks[i/chunkRows], c = mine, mine
	}
	return &c.rows[i%chunkRows]
}

// find returns the position of the row with that key, -1 if there is none.
func (l *ledger) find(key [keyBytes]byte) int {
	if len(l.places) == 0 {
		return -1
	}
	mask := uint32(len(l.places) - 1)
	for at := spread(key) & mask; l.places[at] != 0; at = (at + 1) & mask {
		if i := int(l.places[at] - 1); l.at(i).key() == key {
			return i
		}
	}
	return -1
}

// place enters row i, which must not be there, in the table of places.
func (l *ledger) place(i int) {
	mask := uint32(len(l.places) - 1)
	at := spread(l.at(i).key()) & mask
	for l.places[at] != 0 {
		at = (at + 1) & mask
	}
	l.places[at] = uint32(i) + 1
}

// grow doubles the table of places.
func (l *ledger) grow() {
	l.places = make([]uint32, max(64, 2*len(l.places)))
	for i := range l.count {
		l.place(i)
	}
}

// spread turns a key into a place. Tokens are outputs of a cipher under a key
// that no caller has, so nobody can make them meet; the fields of one subject
// share theirs.
func spread(key [keyBytes]byte) uint32 {
	const odd = 0x9e3779b97f4a7c15
	h := binary.LittleEndian.Uint64(key[:])
	h = h*odd ^ binary.LittleEndian.Uint64(key[8:])
	h = (h^h>>32)*odd ^ binary.LittleEndian.Uint64(key[16:])
	return uint32((h ^ h>>32) * odd >> 32)
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// freeze returns the rows of now, for whoever likes to read them for as long
// as it likes.
func (l *ledger) freeze() frozen {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	return frozen{slices.Clone(l.chunks), l.count}
}

// replace makes l what other is, which nobody else may hold.
func (l *ledger) replace(other *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	l.chunks, l.count, l.places = other.chunks, other.count, other.places
	for _, c := range l.chunks {
		c.era = l.era
	}
}

// frozen is the ledger at one moment. Nothing in it changes.
type frozen struct {
	chunks []*chunk
	count  int
}

// all yields the rows.
func (f frozen) all() iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for i := range f.count {
			if !yield(&f.chunks[i/chunkRows].rows[i%chunkRows]) {
				return
			}
		}
	}
}

// writeTo writes the number of rows and the rows.
func (f frozen) writeTo(w io.Writer) (int64, error) {
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, chunkRows*rowBytes), uint32(f.count))
	written := int64(0)
	for r := range f.all() {
		if len(buf)+rowBytes > cap(buf) {
			n, err := w.Write(buf)
			if written += int64(n); err != nil {
				return written, err
			}
			buf = buf[:0]
		}
		buf = append(buf, r[:]...)
	}
	n, err := w.Write(buf)
	return written + int64(n), err
}

// readLedger reads what writeTo wrote, to the end of r. Each row must fit v.
func readLedger(r *bufio.Reader, v *View) (*ledger, error) {
	var count uint32
	if err := binary.Read(r, binary.BigEndian, &count); err != nil || count > MaxErasures {
		return nil, fmt.Errorf("ledger: %w", cloakroom.ErrMalformed)
	}
	l := &ledger{}
	for i := range count {
		var one row
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return nil, fmt.Errorf("ledger: cut short: %w", cloakroom.ErrMalformed)
		}
		e := one.erasure()
		if fault := e.Fault(v); fault != "" {
			return nil, fmt.Errorf("ledger: row %d: %s: %w", i, fault, cloakroom.ErrMalformed)
		}
		if l.find(one.key()) >= 0 {
			return nil, fmt.Errorf("ledger: row %d stands there twice: %w", i, cloakroom.ErrMalformed)
		}
		l.put(&one)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("ledger: bytes after the end: %w", cloakroom.ErrMalformed)
	}
	return l, nil
}

// Erasures yields what stands in the ledger now, a field at a time, in the
// order in which it came, which is the same on every replica. It may be called
// from anywhere and holds up no command.
func (m *Machine) Erasures() iter.Seq[Erasure] {
	rows := m.ledger.freeze()
	return func(yield func(Erasure) bool) {
		for r := range rows.all() {
			if !yield(r.erasure()) {
				return
			}
		}
	}
}

// ErasureCount returns how many rows the ledger has. It may be called from
// anywhere.
func (m *Machine) ErasureCount() int { return m.ledger.len() }
