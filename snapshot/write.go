package snapshot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"cloakroom/securemem"
)

// Seal is what a [Writer] needs of a keyring.
type Seal struct {
	// Recipient is the post-quantum recipient of the epoch in the header.
	Recipient age.Recipient
	// Sign signs message in context and says under which key.
	Sign func(context string, message []byte) (key [keyIDBytes]byte, sig []byte)
}

var (
	errPayload   = errors.New("the state has another length than its header says")
	errRecipient = errors.New("the recipient is not of the kind format 1 has")
	errClosed    = errors.New("it is closed")
)

// Writer writes one snapshot. Its first error stays.
type Writer struct {
	dst    io.Writer
	sign   func(context string, message []byte) ([keyIDBytes]byte, []byte)
	stream io.WriteCloser // age, into out
	out    bytes.Buffer   // encrypted and not written yet: a chunk at most
	sha    hash.Hash      // of what went through out
	signed []byte         // the header, then the hash as well
	left   int64          // bytes of the payload still to come
	err    error
}

// NewWriter writes the head of a snapshot to w and returns the writer of its
// state, of which exactly h.Payload bytes must come before Close. Without
// Close there is no snapshot: nothing but a complete one is ever signed.
//
// It returns the faults of h and cfg, or the error of w.
func NewWriter(w io.Writer, h Header, cfg Seal) (*Writer, error) {
	faults := []error{h.faults()}
	if cfg.Recipient == nil {
		faults = append(faults, errors.New("no recipient given"))
	}
	if cfg.Sign == nil {
		faults = append(faults, errors.New("no signer given"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	s := &Writer{dst: w, sha: sha256.New(), sign: cfg.Sign, left: h.Payload}
	s.signed = h.append(make([]byte, 0, headerBytes+sha256.Size))
	if err := s.begin(cfg.Recipient); err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	return s, nil
}

// begin writes both headers, the snapshot's and age's.
func (s *Writer) begin(to age.Recipient) error {
	s.out.Grow(chunkBytes + chunkTagBytes)
	if _, err := s.dst.Write(s.signed); err != nil {
		return err
	}
	return s.encrypt(func() (err error) {
		s.stream, err = age.Encrypt(&s.out, to)
		if err == nil && s.out.Len() != ageHeaderBytes+ageNonceBytes {
			err = errRecipient // Size has promised a length
		}
		return err
	})
}

// encrypt calls f, which handles the key of the stream and writes to s.out,
// where nothing of it stays behind: what f allocates is wiped when it was
// dropped. What reaches s.out then goes on to where it belongs, out of there.
func (s *Writer) encrypt(f func() error) (err error) {
	securemem.Do(func() { err = f() })
	if err != nil {
		return err
	}
	s.sha.Write(s.out.Bytes())
	_, err = s.out.WriteTo(s.dst)
	return err
}

// Write adds to the state. It refuses what goes beyond the payload.
func (s *Writer) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if int64(len(p)) > s.left {
		s.err = fmt.Errorf("write snapshot: %w", errPayload)
		return 0, s.err
	}
	n := 0
	for n < len(p) {
		piece := p[n:min(len(p), n+chunkBytes)]
		err := s.encrypt(func() error {
			_, err := s.stream.Write(piece)
			return err
		})
		if err != nil {
			s.err = fmt.Errorf("write snapshot: %w", err)
			return n, s.err
		}
		n += len(piece)
		s.left -= int64(len(piece))
	}
	return n, nil
}

// Close writes the end of the stream and the signature. It does not close what
// is written to. It fails when the state is not complete, and when called again.
func (s *Writer) Close() error {
	if s.err != nil {
		return s.err
	}
	if err := s.end(); err != nil {
		s.err = fmt.Errorf("close snapshot: %w", err)
		return s.err
	}
	s.err = fmt.Errorf("write snapshot: %w", errClosed)
	return nil
}

func (s *Writer) end() error {
	if s.left != 0 {
		return errPayload
	}
	if err := s.encrypt(s.stream.Close); err != nil {
		return err
	}
	s.stream = nil // and with it its key
	s.signed = s.sha.Sum(s.signed)
	key, sig := s.sign(Context, s.signed)
	if len(sig) != signatureBytes {
		return fmt.Errorf("a signature of %d bytes: want %d", len(sig), signatureBytes)
	}
	_, err := s.dst.Write(append(key[:], sig...))
	return err
}
