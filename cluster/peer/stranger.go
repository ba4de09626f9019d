package peer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"cloakroom/cluster/cert"
)

// joinProtocol is the ALPN name of the one conversation that goes without a
// client certificate: one question and one answer, each
//
//	offset  size  content
//	0       4     "CRjq" or "CRja"
//	4       1     format, 1
//	5       1     0; of an answer: 1, come again later, nothing follows
//	6       2     length of what follows, at most MaxKnock - 8
//	8       …     the question or the answer, which this room does not look into
const joinProtocol = "cloakroom-join"

const (
	questionMagic = "CRjq"
	replyMagic    = "CRja"

	knockAnswered = 0
	knockBusy     = 1
)

var (
	// ErrPin means that whoever answered does not belong to the cluster whose
	// CA key was asked for.
	ErrPin = errors.New("not the cluster that was asked for: its CA key is another")
	// ErrBusy means that too many strangers are being answered there.
	ErrBusy = fmt.Errorf("too many join at once: %w", ErrUnreachable)
)

// hearStranger reads the question of one without a certificate, still within
// the time of a handshake.
func (p *Port) hearStranger(l *link) error {
	what, question, err := readShake(l.tls, questionMagic, MaxKnock)
	switch {
	case errors.Is(err, errShake) || err == nil && what != 0:
		return refusedMalformed
	case err != nil:
		return refusedGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.kind, l.question = stranger, question
	return nil
}

// answerStranger has the question answered, and hangs up.
func (p *Port) answerStranger(l *link) {
	defer l.cut(errFinished)
	question := l.question
	l.question = nil
	defer clear(question) // it holds a join token
	select {
	case p.strange <- struct{}{}:
		defer func() { <-p.strange }()
	default:
		p.refused[refusedCrowd].Add(1)
		dst, from := beginShake(nil, replyMagic, knockBusy)
		p.farewell(l, endShake(dst, from))
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, maxWelcome)
	defer cancel()
	reply := p.cfg.Welcome(ctx, l.raw.RemoteAddr().String(), question)
	if len(reply) > MaxKnock-headBytes {
		p.cfg.Logger.Error("the answer to a joining node is too large", "bytes", len(reply))
		return
	}
	dst, from := beginShake(nil, replyMagic, knockAnswered)
	p.farewell(l, endShake(append(dst, reply...), from))
}

// farewell writes the last that is said to a stranger, and waits until it has
// hung up, or for as long as a write may stand still: a connection that is
// closed on unread bytes is reset, and the answer with it.
func (p *Port) farewell(l *link, message []byte) {
	ctx, cancel := context.WithTimeout(l.ctx, p.cfg.Stall)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.cut(errFinished) })()
	if _, err := l.tls.Write(message); err == nil && l.tls.CloseWrite() == nil {
		var b [1]byte
		l.tls.Read(b[:])
	}
}

// Knock is what somebody without a certificate asks the cluster at Addr with.
type Knock struct {
	Addr    string
	Pin     [32]byte // of the cluster's CA key, as KeyOf makes it
	Carrier Carrier  // default: TCP
	Now     func() time.Time
}

// Ask asks one question, at most MaxKnock - 8 bytes, and returns the answer and
// the root certificate with the key that was pinned. Nothing is sent to anybody
// who can't prove to belong to that cluster: then the error wraps [ErrPin]. An
// error that wraps [ErrUnreachable] means that nothing was sent, or [ErrBusy];
// after any other the question may have been answered.
func (k Knock) Ask(ctx context.Context, question []byte) (answer []byte, root *x509.Certificate, err error) {
	if len(question) > MaxKnock-headBytes {
		return nil, nil, fmt.Errorf("ask %s: question of %d bytes", k.Addr, len(question))
	}
	if k.Carrier == nil {
		k.Carrier = TCP()
	}
	ctx, cancel := context.WithTimeout(ctx, maxWelcome+defaultHandshake)
	defer cancel()
	raw, err := k.Carrier.Dial(ctx, k.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w: %w", k.Addr, ErrUnreachable, err)
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := tls.Client(raw, k.settings(&root))
	if err := conn.HandshakeContext(ctx); err != nil {
		if !errors.Is(err, ErrPin) {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return nil, nil, fmt.Errorf("ask %s: %w", k.Addr, err)
	}
	dst, from := beginShake(make([]byte, 0, headBytes+len(question)), questionMagic, 0)
	message := endShake(append(dst, question...), from)
	defer clear(message)
	if _, err := conn.Write(message); err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", k.Addr, err)
	}
	what, answer, err := readShake(conn, replyMagic, MaxKnock)
	switch {
	case err != nil:
		if errors.Is(err, io.EOF) {
			err = errors.New("hung up without an answer")
		}
		return nil, nil, fmt.Errorf("ask %s: %w", k.Addr, err)
	case what == knockBusy:
		return nil, nil, fmt.Errorf("ask %s: %w", k.Addr, ErrBusy)
	case what != knockAnswered:
		return nil, nil, fmt.Errorf("ask %s: %w", k.Addr, errShake)
	}
	return answer, root, nil
}

// settings verify the chain up to the root with the pinned key, which the other
// side shows behind its own certificate. root is set when they have.
func (k Knock) settings(root **x509.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{joinProtocol}, ServerName: cert.ServerName, Time: k.Now,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // in favour of VerifyConnection: the root comes with the chain, its key is pinned
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			if len(chain) < 2 {
				return fmt.Errorf("%w, or it shows none", ErrPin)
			}
			last := chain[len(chain)-1]
			if sum := sha256.Sum256(last.RawSubjectPublicKeyInfo); subtle.ConstantTimeCompare(sum[:], k.Pin[:]) != 1 {
				return ErrPin
			}
			roots := x509.NewCertPool()
			roots.AddCert(last)
			_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: cert.ServerName, CurrentTime: k.Now(),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			if err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
			}
			*root = last
			return nil
		},
	}
}
