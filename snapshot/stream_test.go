package snapshot

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"filippo.io/age"
)

// tally counts what passes.
type tally struct {
	io.Reader
	n int
}

func (c *tally) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// Neither direction gathers the state: what goes in comes out a few chunks
// later.
func TestBothDirectionsStream(t *testing.T) {
	const total, slack = 32 * chunkBytes, 3 * chunkBytes
	h := headerFor(make([]byte, total))
	var out bytes.Buffer
	w, err := NewWriter(&out, h, seal(t))
	if err != nil {
		t.Fatal(err)
	}
	state := noise(t, total)
	for n := 0; n < total; n += 1000 {
		if _, err := w.Write(state[n:min(n+1000, total)]); err != nil {
			t.Fatal(err)
		}
		if out.Len() < n-slack {
			t.Fatalf("%d bytes written after %d came in", out.Len(), n)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	in := &tally{Reader: &out}
	r, err := NewReader(in, open(t))
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1000)
	for n := 0; n < total; {
		read, err := io.ReadFull(r, piece[:min(len(piece), total-n)])
		if err != nil {
			t.Fatal(err)
		}
		if n += read; in.n > n+slack {
			t.Fatalf("%d bytes read before %d were asked for", in.n, n)
		}
	}
	if n, err := r.Read(piece); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// However the bytes come in pieces, the state is the same.
func TestPiecesDoNotMatter(t *testing.T) {
	state := noise(t, chunkBytes+100)
	file := written(t, headerFor(state), state)
	for name, from := range map[string]io.Reader{
		"a byte at a time": iotest.OneByteReader(bytes.NewReader(file)),
		"half":             iotest.HalfReader(bytes.NewReader(file)),
		"end with data":    iotest.DataErrReader(bytes.NewReader(file)),
	} {
		r, err := NewReader(from, open(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := iotest.TestReader(r, state); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriterWantsTheLengthItWasTold(t *testing.T) {
	state := noise(t, 50)
	for name, c := range map[string]struct {
		pieces [][]byte
		fails  string
	}{
		"too much at once": {[][]byte{append(bytes.Clone(state), 0)}, "write"},
		"too much in two":  {[][]byte{state, {0}}, "write"},
		"too little":       {[][]byte{state[1:]}, "close"},
		"nothing":          {nil, "close"},
	} {
		var out bytes.Buffer
		cfg := seal(t)
		cfg.Sign = func(string, []byte) ([8]byte, []byte) {
			t.Errorf("%s: signed", name)
			return [8]byte{}, nil
		}
		w, err := NewWriter(&out, headerFor(state), cfg)
		if err != nil {
			t.Fatal(err)
		}
		failed := ""
		for _, p := range c.pieces {
			if _, err := w.Write(p); errors.Is(err, errPayload) {
				failed = "write"
			}
		}
		if err := w.Close(); errors.Is(err, errPayload) && failed == "" {
			failed = "close"
		}
		if failed != c.fails {
			t.Errorf("%s: failed at %q, want %q", name, failed, c.fails)
		}
		refused(t, name, out.Bytes(), open(t), ErrDamaged)
	}
}

func TestClosedWriterRefuses(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, headerFor(nil), seal(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size := out.Len()
	if err := w.Close(); !errors.Is(err, errClosed) {
		t.Errorf("Close = %v, want errClosed", err)
	}
	if _, err := w.Write(nil); !errors.Is(err, errClosed) {
		t.Errorf("Write = %v, want errClosed", err)
	}
	if out.Len() != size {
		t.Errorf("%d bytes written after Close", out.Len()-size)
	}
}

// failing fails after n bytes.
type failing struct{ n int }

var errFull = errors.New("no space left")

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestErrorsOfTheDestinationStay(t *testing.T) {
	state := noise(t, 3*chunkBytes)
	size := int(Size(int64(len(state))))
	for _, n := range []int{0, headerBytes, 2000, 100_000, size - trailerBytes, size - 1} {
		w, err := NewWriter(&failing{n}, headerFor(state), seal(t))
		if err == nil {
			_, err = w.Write(state)
			if again := w.Close(); err != nil && again != err {
				t.Errorf("after %d bytes: Close = %v, want %v", n, again, err)
			} else {
				err = again
			}
		}
		if !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v, want errFull", n, err)
		}
	}
	w, err := NewWriter(&failing{size}, headerFor(state), seal(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("with just enough room: %v", err)
	}
}

// Size holds for one kind of recipient; another would break a promise that was
// made before the first byte, and a signature of another length would as well.
func TestWriterRefusesWhatWouldHaveAnotherSize(t *testing.T) {
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg := seal(t)
	cfg.Recipient = classic.Recipient()
	if _, err := NewWriter(io.Discard, headerFor(nil), cfg); !errors.Is(err, errRecipient) {
		t.Errorf("a recipient of another kind: %v, want errRecipient", err)
	}
	cfg = seal(t)
	cfg.Sign = func(string, []byte) ([8]byte, []byte) { return [8]byte{}, make([]byte, signatureBytes-1) }
	w, err := NewWriter(io.Discard, headerFor(nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed with a short signature")
	}
}
