package wire

import (
	"encoding/binary"
	"slices"
)

// Verdict says what became of somebody who asks to be let in, for the keys, or
// for a certificate. The numbers never change; 0 is none of them.
type Verdict uint8

// The verdicts.
const (
	// Granted: it is done, and what was asked for follows.
	Granted Verdict = 1
	// NotNow: nothing was done; the same may be asked again, here or elsewhere.
	NotNow Verdict = 2
	// Unadmitted: a person has to admit the node first; then it may ask again.
	Unadmitted Verdict = 3
	// Alive: another process is that node.
	Alive Verdict = 4
	// Copied: the node's folder is a copy, or was rolled back.
	Copied Verdict = 5
	// Stranger: no such node is registered, or it was removed.
	Stranger Verdict = 6
	// Differs: the node's own settings are not those of the cluster, or its
	// address or key is not the registered one.
	Differs Verdict = 7
	// BadToken: the join token is not known to this cluster.
	BadToken Verdict = 8
	// UsedToken: the join token has let in another node.
	UsedToken Verdict = 9
	// OldToken: the join token has expired.
	OldToken Verdict = 10
	// Taken: another node has the name or the key.
	Taken Verdict = 11
	// Unreadable: the request breaks a rule of its format.
	Unreadable Verdict = 12
)

var verdictNames = [...]string{
	Granted: "granted", NotNow: "not-now", Unadmitted: "unadmitted", Alive: "alive", Copied: "copied",
	Stranger: "stranger", Differs: "differs", BadToken: "bad-token", UsedToken: "used-token",
	OldToken: "old-token", Taken: "taken", Unreadable: "unreadable",
}

// String returns the verdict's name, for logs, metrics and the audit log.
func (v Verdict) String() string {
	if !v.valid() {
		return "invalid"
	}
	return verdictNames[v]
}

func (v Verdict) valid() bool { return v >= Granted && v <= Unreadable }

// Final reports whether asking again, there or elsewhere, can't help.
func (v Verdict) Final() bool { return v != Granted && v != NotNow && v != Unadmitted }

// Verdicts lists all of them.
func Verdicts() []Verdict {
	all := make([]Verdict, 0, Unreadable)
	for v := Granted; v.valid(); v++ {
		all = append(all, v)
	}
	return all
}

const (
	// SecretBytes is the length of the secret in a join token.
	SecretBytes = 32
	// MaxDER bounds a certificate or the request for one, in bytes.
	MaxDER = 4 << 10
)

// EnterRequest asks, with the secret of a join token, to have a node
// registered. It goes over the ALPN cloakroom-join, where there is no client
// certificate; the request for one in it proves that the sender has the key.
//
//	offset  size  content
//	0       1     format, 1
//	1       32    secret
//	33      2+…   node
//	        2+…   address of the node, host:port
//	        2+…   zone
//	        2+…   address of its front door, may be empty
//	        2+…   recovery mode of its configuration; empty: not said
//	        2     shards of its configuration; 0: not said
//	        2     replication of its configuration; 0: not said
//	        4+…   PKCS #10 request in DER, at most MaxDER; its name counts nothing
type EnterRequest struct {
	Secret                   [SecretBytes]byte
	Node, Address, Zone, API string
	RecoveryMode             string
	Shards, Replication      uint16
	Certificate              []byte
}

// String hides the secret.
func (m EnterRequest) String() string { return "request of node " + m.Node + " to be let in" }

// GoString hides the secret.
func (m EnterRequest) GoString() string { return m.String() }

func (m *EnterRequest) strings() [5]*string {
	return [...]*string{&m.Node, &m.Address, &m.Zone, &m.API, &m.RecoveryMode}
}

// Append appends the message to dst.
func (m *EnterRequest) Append(dst []byte) []byte {
	dst = slices.Grow(dst, 128+len(m.Certificate)) // so that the secret is in one place only
	dst = append(append(dst, format), m.Secret[:]...)
	for _, s := range m.strings() {
		dst = appendString(dst, *s)
	}
	dst = binary.BigEndian.AppendUint16(dst, m.Shards)
	dst = binary.BigEndian.AppendUint16(dst, m.Replication)
	return appendBlob(dst, m.Certificate)
}

// Decode reads one message.
func (m *EnterRequest) Decode(b []byte) error {
	r := open(b)
	copy(m.Secret[:], r.take(SecretBytes))
	for _, s := range m.strings() {
		*s = r.string()
	}
	m.Shards, m.Replication = r.uint16(), r.uint16()
	m.Certificate = r.blob(MaxDER)
	return r.end()
}

// EnterReply says whether the node was registered, and gives it a certificate.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     verdict
//	2       2+…   text for the operator
//	if granted:
//	        16    cluster
//	        1     1: the node is pending until a person admits it; else 0
//	        4+…   certificate of the node in DER, at most MaxDER
//	        4+…   root certificate in DER, at most MaxDER
//	        4     number of peers, at most MaxPeers
//	        2+…   addresses of their cluster ports
type EnterReply struct {
	Verdict           Verdict
	Text              string
	Cluster           [16]byte
	Pending           bool
	Certificate, Root []byte
	Peers             []string
}

// MaxPeers bounds the addresses in an [EnterReply].
const MaxPeers = 64

// Append appends the message to dst.
func (m *EnterReply) Append(dst []byte) []byte {
	dst = appendString(append(dst, format, byte(m.Verdict)), m.Text)
	if m.Verdict != Granted {
		return dst
	}
	dst = append(dst, m.Cluster[:]...)
	dst = append(dst, bit(m.Pending))
	dst = appendBlob(appendBlob(dst, m.Certificate), m.Root)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Peers)))
	for _, addr := range m.Peers {
		dst = appendString(dst, addr)
	}
	return dst
}

// Decode reads one message.
func (m *EnterReply) Decode(b []byte) error {
	r := open(b)
	*m = EnterReply{Verdict: r.verdict(), Text: r.string(), Peers: m.Peers[:0]}
	if m.Verdict == Granted {
		copy(m.Cluster[:], r.take(len(m.Cluster)))
		m.Pending = r.flag()
		m.Certificate, m.Root = r.blob(MaxDER), r.blob(MaxDER)
		for range r.count(MaxPeers, 2) {
			m.Peers = append(m.Peers, r.string())
		}
	}
	return r.end()
}

// RenewRequest asks for a new certificate. Who asks, and for which key, is
// known by the certificate of the connection, which may be past its end.
//
//	offset  size  content
//	0       1     format, 1
//	1       4+…   public key as SubjectPublicKeyInfo in DER, at most MaxDER
type RenewRequest struct{ PublicKey []byte }

// Append appends the message to dst.
func (m *RenewRequest) Append(dst []byte) []byte { return appendBlob(append(dst, format), m.PublicKey) }

// Decode reads one message; the key aliases b.
func (m *RenewRequest) Decode(b []byte) error {
	r := open(b)
	m.PublicKey = r.blob(MaxDER)
	return r.end()
}

// RenewReply answers a [RenewRequest].
//
//	offset  size  content
//	0       1     format, 1
//	1       1     verdict
//	2       2+…   text for the operator
//	if granted:
//	        4+…   certificate of the node in DER, at most MaxDER
//	        4+…   root certificate in DER, at most MaxDER
type RenewReply struct {
	Verdict           Verdict
	Text              string
	Certificate, Root []byte
}

// Append appends the message to dst.
func (m *RenewReply) Append(dst []byte) []byte {
	dst = appendString(append(dst, format, byte(m.Verdict)), m.Text)
	if m.Verdict == Granted {
		dst = appendBlob(appendBlob(dst, m.Certificate), m.Root)
	}
	return dst
}

// Decode reads one message; its byte slices alias b.
func (m *RenewReply) Decode(b []byte) error {
	r := open(b)
	*m = RenewReply{Verdict: r.verdict(), Text: r.string()}
	if m.Verdict == Granted {
		m.Certificate, m.Root = r.blob(MaxDER), r.blob(MaxDER)
	}
	return r.end()
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (r *reader) flag() bool {
	b := r.byte()
	r.demand(b <= 1)
	return b == 1
}

func (r *reader) verdict() Verdict {
	v := Verdict(r.byte())
	r.demand(v.valid())
	return v
}

// blob reads a 4-byte length, at most limit, and that many bytes.
func (r *reader) blob(limit int) []byte {
	n := r.uint32()
	r.demand(uint64(n) <= uint64(limit))
	if r.bad {
		return nil
	}
	return r.take(int(n))
}

// appendBlob appends b behind its length.
func appendBlob(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}
