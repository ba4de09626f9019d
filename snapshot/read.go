package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"cloakroom"
	"cloakroom/securemem"
)

// Open is what a [Reader] needs to know, and of a keyring.
type Open struct {
	// Want is what the snapshot must be of, in every part. Who takes what
	// comes fills it from [ReadHeader].
	Want Origin
	// Identity returns the snapshot identity of an epoch.
	Identity func(cloakroom.Epoch) (age.Identity, error)
	// Verify reports whether sig is the signature of message in context under
	// the key of that id, one of this cluster's.
	Verify func(key [keyIDBytes]byte, context string, message, sig []byte) bool
}

// Reader reads the state out of a snapshot. Its first error stays.
//
// Every byte it returns is authenticated by age, so it is what somebody sealed
// who knew the recipient; that it was this cluster is known at the end. Use
// what was read only after Read has returned [io.EOF].
type Reader struct {
	header Header
	src    *source
	body   *inbox    // what is in src of the age stream
	stream io.Reader // age, out of body
	signed []byte    // the header, then the hash as well
	left   int64     // bytes of the payload still to come
	verify func(key [keyIDBytes]byte, context string, message, sig []byte) bool
	err    error
}

// NewReader reads the head of a snapshot from r, which must end where the
// snapshot does. It returns [ErrFormat], [ErrOther] for another origin than
// wanted, [ErrDamaged], or the error of r or of the identity.
func NewReader(r io.Reader, cfg Open) (*Reader, error) {
	var faults []error
	if cfg.Identity == nil {
		faults = append(faults, errors.New("no source of identities given"))
	}
	if cfg.Verify == nil {
		faults = append(faults, errors.New("no verifier given"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	s := &Reader{src: &source{from: r}, verify: cfg.Verify}
	if err := s.begin(cfg); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return s, nil
}

// Header returns the header, which is to be believed once Read has returned
// [io.EOF].
func (s *Reader) Header() Header { return s.header }

func (s *Reader) begin(cfg Open) (err error) {
	if s.header, err = ReadHeader(s.src); err != nil {
		return err
	}
	if what := s.header.differs(&cfg.Want); what != "" {
		return fmt.Errorf("%w: %s", ErrOther, what)
	}
	identity, err := cfg.Identity(s.header.Epoch)
	if err != nil {
		return fmt.Errorf("identity of epoch %d: %w", s.header.Epoch, err)
	}
	s.left = s.header.Payload
	s.signed = s.header.append(make([]byte, 0, headerBytes+sha256.Size))
	s.body = newInbox(io.LimitReader(s.src, streamBytes(s.left)))
	if err := s.body.fill(); err != nil {
		return err
	}
	kept := &keptIdentity{Identity: identity}
	securemem.Do(func() { s.stream, err = age.Decrypt(s.body, kept) })
	switch {
	case err == nil:
		return nil
	case kept.err != nil:
		return fmt.Errorf("identity of epoch %d: %w", s.header.Epoch, kept.err)
	case errors.Is(err, age.ErrIncorrectIdentity):
		return fmt.Errorf("%w: not sealed to the identity of epoch %d", ErrDamaged, s.header.Epoch)
	}
	return s.fault("age header")
}

// Read returns the next bytes of the state, and [io.EOF] only after all of it
// was read, nothing follows the snapshot, and the signature was found good.
// Otherwise it returns [ErrDamaged], [ErrSignature] or the source's error.
func (s *Reader) Read(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if err = s.body.fill(); err == nil {
		securemem.Do(func() { n, err = s.stream.Read(p) })
		s.left -= int64(n)
	}
	if err == nil {
		return n, nil
	}
	s.stream = nil // and with it its key
	if err == io.EOF {
		err = s.end()
	} else {
		err = s.fault("age stream")
	}
	if s.err = io.EOF; err != nil {
		s.err = fmt.Errorf("read snapshot: %w", err)
	}
	return n, s.err
}

// end checks what only the end can tell.
func (s *Reader) end() error {
	if s.left != 0 { // the age header was longer than ours are
		return s.fault("length of the state")
	}
	var trailer [trailerBytes]byte
	if _, err := io.ReadFull(s.src, trailer[:]); err != nil {
		return s.fault("trailer")
	}
	if n, err := io.ReadFull(s.src, make([]byte, 1)); n != 0 || err != io.EOF {
		return s.fault("end")
	}
	s.signed = s.body.sha.Sum(s.signed)
	if !s.verify([keyIDBytes]byte(trailer[:]), Context, s.signed, trailer[keyIDBytes:]) {
		return ErrSignature
	}
	return nil
}

// fault is the error of a step that failed. The text of age's is left out: it
// quotes what it read, up to 2 MiB.
func (s *Reader) fault(step string) error {
	if s.src.err != nil {
		return s.src.err
	}
	return fmt.Errorf("%w: %s", ErrDamaged, step)
}

// inbox holds the next bytes of the age stream, so that age finds them without
// going to the source: what a source allocates and waits for has no business
// inside securemem.Do.
type inbox struct {
	from  io.Reader
	sha   hash.Hash // of all that came from it
	room  []byte
	next  []byte // the part of room not taken yet
	ended bool   // nothing comes after next
}

// newInbox returns one that holds what age takes at a time: a chunk, and the
// byte with which it looks whether more follows. Its header is shorter.
func newInbox(from io.Reader) *inbox {
	return &inbox{from: from, sha: sha256.New(), room: make([]byte, chunkBytes+chunkTagBytes+1)}
}

// fill fills the box, up to the end of the stream. Each Read of age is preceded
// by one.
func (b *inbox) fill() error {
	if b.ended || len(b.next) == len(b.room) {
		return nil
	}
	have := copy(b.room, b.next)
	n, err := io.ReadFull(b.from, b.room[have:])
	b.sha.Write(b.room[have : have+n])
	b.next = b.room[:have+n]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		b.ended, err = true, nil
	}
	return err
}

// Read implements io.Reader for age.
func (b *inbox) Read(p []byte) (int, error) {
	if len(b.next) == 0 && len(p) > 0 {
		if b.ended {
			return 0, io.EOF
		}
		return 0, io.ErrNoProgress // a header longer than any of ours
	}
	n := copy(p, b.next)
	b.next = b.next[n:]
	return n, nil
}

// source keeps the error of the reader behind it, other than the end.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// keptIdentity keeps the error of an identity that failed, which says nothing
// about the snapshot. One that does not fit has not failed.
type keptIdentity struct {
	age.Identity
	err error
}

// Unwrap implements age.Identity.
func (k *keptIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := k.Identity.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		k.err = err
	}
	return key, err
}
