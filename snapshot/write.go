package snapshot

import (
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
	sha    hash.Hash // of the age stream
	sign   func(context string, message []byte) ([keyIDBytes]byte, []byte)
	stream io.WriteCloser // age
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
func (s *Writer) begin(to age.Recipient) (err error) {
	if _, err := s.dst.Write(s.signed); err != nil {
		return err
	}
	out := &counter{to: io.MultiWriter(s.dst, s.sha)}
	// The file key and all that is derived from it is made in there, so the
	// collector wipes it when the stream is done with.
	securemem.Do(func() { s.stream, err = age.Encrypt(out, to) })
	if err != nil {
		return err
	}
	// Size has promised a length.
	if out.n != int64(ageHeaderBytes)+ageNonceBytes {
		return errRecipient
	}
	return nil
}

// counter counts what is written through it.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// Write adds to the state. It refuses what goes beyond the payload.
func (s *Writer) Write(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if int64(len(p)) > s.left {
		s.err = fmt.Errorf("write snapshot: %w", errPayload)
		return 0, s.err
	}
	securemem.Do(func() { n, err = s.stream.Write(p) })
	s.left -= int64(n)
	if err != nil {
		s.err = fmt.Errorf("write snapshot: %w", err)
	}
	return n, s.err
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

func (s *Writer) end() (err error) {
	if s.left != 0 {
		return errPayload
	}
	securemem.Do(func() { err = s.stream.Close() })
	if err != nil {
		return err
	}
	s.stream = nil // and with it its key
	s.signed = s.sha.Sum(s.signed)
	key, sig := s.sign(Context, s.signed)
	if len(sig) != signatureBytes {
		return fmt.Errorf("a signature of %d bytes: want %d", len(sig), signatureBytes)
	}
	_, err = s.dst.Write(append(key[:], sig...))
	return err
}
