package rows

import (
	"bytes"
	"io"
)

// buffer is a window on the file, big enough for one record.
type buffer struct {
	src    io.Reader
	data   []byte // what is read and not yet used
	all    []byte // the memory behind data
	offset int64  // of data[0] in the file
	err    error  // from src; io.EOF at the end
}

// window is how much is asked of the file at once, in bytes.
const window = 256 << 10

func newBuffer(src io.Reader) *buffer { return &buffer{src: src, all: make([]byte, window)} }

// start drops a UTF-8 byte order mark and refuses UTF-16.
func (b *buffer) start() error {
	for len(b.data) < 3 && b.fill() {
	}
	switch {
	case b.err != nil && b.err != io.EOF:
		return b.err
	case bytes.HasPrefix(b.data, []byte("\xff\xfe")), bytes.HasPrefix(b.data, []byte("\xfe\xff")):
		return ErrUTF16
	case bytes.HasPrefix(b.data, []byte("\xef\xbb\xbf")):
		b.use(3)
	}
	return nil
}

// fill reads more behind data and reports whether there was more.
func (b *buffer) fill() bool {
	if b.err != nil {
		return false
	}
	room := len(b.all) - len(b.data)
	if room < len(b.all)/2 { // few records are longer than half of the memory
		b.all = append(make([]byte, 0, 2*len(b.all)), b.data...)[:2*len(b.all)]
	} else {
		copy(b.all, b.data)
	}
	n := 0
	for n == 0 && b.err == nil {
		n, b.err = b.src.Read(b.all[len(b.data):])
	}
	b.data = b.all[:len(b.data)+n]
	return n > 0
}

// use drops the first n bytes.
func (b *buffer) use(n int) {
	b.data = b.data[n:]
	b.offset += int64(n)
}

// line returns the length of the first line of data, its line end included,
// and reading on as needed. ok is false if the line is longer than MaxRecord.
func (b *buffer) line() (n int, ok bool) {
	for from := 0; ; {
		if i := bytes.IndexByte(b.data[from:], '\n'); i >= 0 {
			return from + i + 1, from+i < MaxRecord
		}
		from = len(b.data)
		if from > MaxRecord {
			return 0, false
		}
		if !b.fill() {
			return len(b.data), true
		}
	}
}

// skipLine drops everything up to the next line end, however far it is.
func (b *buffer) skipLine() {
	for {
		if i := bytes.IndexByte(b.data, '\n'); i >= 0 {
			b.use(i + 1)
			return
		}
		b.use(len(b.data))
		if !b.fill() {
			return
		}
	}
}
