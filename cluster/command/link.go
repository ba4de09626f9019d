package command

import (
	"bytes"
	"encoding/binary"

	"cloakroom"
)

// LinkKind says what a link is for. The numbers are in every log and never
// change.
type LinkKind uint8

const (
	// Handle is the token of a source handle. Under it stands, sealed, the
	// pseudonym of the subject ([DecodeHandle]).
	Handle LinkKind = 1
	// Alias is the subject token of a further pseudonym, in a domain of its
	// own. Under it stands a [SubjectRecord] with Alias set.
	Alias LinkKind = 2
)

// Link is one token that a [Bind] ties to its subject: the shard removes what
// stands under it together with the subject.
type Link struct {
	Kind   LinkKind
	Domain cloakroom.Domain // of an alias; zero for a handle
	Token  cloakroom.Token
	Record []byte // sealed, at most MaxLinkRecordBytes and not empty
}

const (
	// MaxLinks bounds the links of one subject, and so those of one command.
	MaxLinks = 64
	// MaxLinkRecordBytes bounds what is sealed under a link's token: a
	// pseudonym, its padding and header.
	MaxLinkRecordBytes = 255
)

// A link in a command, format 1:
//
//	offset  size  content
//	0       1     kind
//	1       2     domain, zero for a handle
//	3       16    token
//	19      1     length of the record, 1 to 255
//	20      …     record
const linkBytes = 1 + 2 + 16 + 1

func (l *Link) size() int { return linkBytes + len(l.Record) }

// append appends the link. A record that is too long gets length 0, which
// nobody accepts.
func (l *Link) append(dst []byte) []byte {
	length := byte(0)
	if len(l.Record) <= MaxLinkRecordBytes {
		length = byte(len(l.Record))
	}
	dst = append(dst, byte(l.Kind))
	dst = binary.BigEndian.AppendUint16(dst, uint16(l.Domain))
	dst = append(dst, l.Token[:]...)
	dst = append(dst, length)
	return append(dst, l.Record...)
}

// decodeLinks reads the links of a bind, which are the rest of the command.
func (c *Command) decodeLinks(r *reader) error {
	count := int(r.take(1)[0])
	if count == 0 || count > MaxLinks {
		return cloakroom.ErrMalformed
	}
	for i := range count {
		l := Link{Kind: LinkKind(r.take(1)[0])}
		l.Domain = cloakroom.Domain(r.uint16())
		l.Token = cloakroom.Token(r.take(16))
		l.Record = r.take(int(r.take(1)[0]))
		if r.short || len(l.Record) == 0 || l.Token == c.Subject ||
			l.Kind != Alias && (l.Kind != Handle || l.Domain != 0) ||
			i > 0 && bytes.Compare(c.Links[i-1].Token[:], l.Token[:]) >= 0 {
			return cloakroom.ErrMalformed
		}
		c.Links = append(c.Links, l)
	}
	return c.linksApart()
}

// linksApart returns [cloakroom.ErrMalformed] if a token is both a field's and
// a link's. Both are in order.
func (c *Command) linksApart() error {
	links := c.Links
	for i := range c.Fields {
		for len(links) > 0 {
			order := bytes.Compare(links[0].Token[:], c.Fields[i].Token[:])
			if order == 0 {
				return cloakroom.ErrMalformed
			}
			if order > 0 {
				break
			}
			links = links[1:]
		}
	}
	return nil
}

// AppendStored appends to dst what a shard keeps under the link's token.
func (l *Link) AppendStored(dst []byte) []byte {
	if l.Kind == Handle {
		return append(append(dst, formatHandle<<4), l.Record...)
	}
	s := SubjectRecord{Domain: l.Domain, Alias: true, Sealed: l.Record}
	return s.Append(dst)
}

// DecodeHandle returns the sealed record that was bound under a handle's token,
// given what a read of that token found. It aliases stored. It returns
// [cloakroom.ErrMalformed] for anything else.
func DecodeHandle(stored []byte) ([]byte, error) {
	if !IsHandle(stored) || len(stored) < 2 || len(stored) > 1+MaxLinkRecordBytes {
		return nil, cloakroom.ErrMalformed
	}
	return stored[1:], nil
}

// IsHandle reports whether a record that is no field's is a handle's, going by
// its first byte.
func IsHandle(stored []byte) bool { return len(stored) > 0 && stored[0] == formatHandle<<4 }

// Links are the links of a subject as its record keeps them: a kind and a
// token each, tokens strictly ascending.
type Links []byte

const storedLink = 1 + 16

// Len returns the number of links.
func (l Links) Len() int { return len(l) / storedLink }

// At returns link i.
func (l Links) At(i int) (LinkKind, cloakroom.Token) {
	at := l[i*storedLink:][:storedLink]
	return LinkKind(at[0]), cloakroom.Token(at[1:])
}

// AppendMerged appends to dst the links of l and added, which have no token in
// common, in order.
func (l Links) AppendMerged(dst Links, added []Link) Links {
	for i := range added {
		token := added[i].Token[:]
		for len(l) > 0 && bytes.Compare(l[1:storedLink], token) < 0 {
			dst = append(dst, l[:storedLink]...)
			l = l[storedLink:]
		}
		dst = append(append(dst, byte(added[i].Kind)), token...)
	}
	return append(dst, l...)
}

// valid reports whether l is what AppendMerged makes, and not too long.
func (l Links) valid() bool {
	if len(l)%storedLink != 0 || l.Len() > MaxLinks {
		return false
	}
	for i := range l.Len() {
		if kind, _ := l.At(i); kind != Handle && kind != Alias {
			return false
		}
		if i > 0 && bytes.Compare(l[(i-1)*storedLink+1:i*storedLink], l[i*storedLink+1:(i+1)*storedLink]) >= 0 {
			return false
		}
	}
	return true
}
