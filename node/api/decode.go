package api

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"cloakroom"
)

// decoder turns request bodies into requests. What it returns aliases the
// body, the spare memory, or the decoder's own slices of positions and ids,
// and is good until the next body.
type decoder struct {
	scanner
	ids    []cloakroom.Pseudonym
	names  [][]byte
	fields []FieldValue
	ttls   []FieldTTL
	seen   []uint16 // see distinct
}

// resolve decodes {"ids":[…],"fields":[…],"form"?,"purpose"?} into q and
// purpose.
func (d *decoder) resolve(body []byte, q *Query, purpose *[]byte) error {
	d.reset(body)
	d.ids, d.names = d.ids[:0], d.names[:0]
	var hasIDs, hasFields bool
	err := d.object("an object", func(name []byte) (err error) {
		switch string(name) {
		case "ids":
			hasIDs = true
			return d.idList()
		case "fields":
			hasFields = true
			return d.nameList()
		case "form":
			q.Form, err = d.word("a form")
			return err
		case "purpose":
			*purpose, err = d.word("a purpose")
			return err
		}
		return d.fail("unknown member")
	})
	if err == nil {
		err = d.end()
	}
	switch {
	case err != nil:
		return err
	case !hasIDs || len(d.ids) == 0:
		return malformed("ids is required and names at least one id")
	case !hasFields || len(d.names) == 0:
		return malformed("fields is required and names at least one field")
	}
	q.Asked = len(d.ids)
	q.IDs = d.distinct()
	q.Fields = d.names
	return nil
}

// idList decodes an array of ids. A pseudonym in plain form, which is every
// pseudonym in practice, is parsed where it stands; the strict scanner takes
// whatever is unusual.
func (d *decoder) idList() error {
	return d.array("an array of ids", func(i int) error {
		if i == cloakroom.MaxResolveIDs {
			return &refusal{cloakroom.ErrTooLarge, "more than " + strconv.Itoa(cloakroom.MaxResolveIDs) + " ids"}
		}
		d.next()
		const n = cloakroom.PseudonymTextLen
		if b := d.b[d.i:]; len(b) >= n+2 && b[0] == '"' && b[n+1] == '"' {
			if id, err := cloakroom.ParsePseudonym(b[1 : n+1]); err == nil {
				d.i += n + 2
				d.ids = append(d.ids, id)
				return nil
			}
		}
		text, err := d.str("an id")
		if err != nil {
			return err
		}
		id, err := cloakroom.ParsePseudonym(text)
		if err != nil {
			return &refusal{err, "ids[" + strconv.Itoa(i) + "]"}
		}
		d.ids = append(d.ids, id)
		return nil
	})
}

// nameList decodes an array of distinct field names.
func (d *decoder) nameList() error {
	return d.array("an array of field names", func(i int) error {
		if i == cloakroom.MaxFields {
			return &refusal{cloakroom.ErrTooLarge, "more than " + strconv.Itoa(cloakroom.MaxFields) + " fields"}
		}
		name, err := d.word("a field name")
		if err != nil {
			return err
		}
		d.names, err = addName(d.names, name)
		return err
	})
}

func addName(names [][]byte, name []byte) ([][]byte, error) {
	for _, other := range names {
		if string(other) == string(name) {
			return names, malformed("fields[" + strconv.Itoa(len(names)) + "] is there twice")
		}
	}
	return append(names, name), nil
}

// word decodes a string that names something.
func (d *decoder) word(what string) ([]byte, error) {
	text, err := d.str(what)
	if err != nil {
		return nil, err
	}
	if !isWord(text) {
		return nil, d.fail("malformed name of " + what)
	}
	return text, nil
}

// isWord reports whether text can name a field, purpose, form or domain: up
// to MaxNameBytes of visible ASCII without quotes, backslash and comma.
func isWord(text []byte) bool {
	if len(text) == 0 || len(text) > cloakroom.MaxNameBytes {
		return false
	}
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '\\' || c == ',' {
			return false
		}
	}
	return true
}

// hashSeed keeps callers from choosing ids that collide in distinct.
var hashSeed = rand.Uint64() | 1

// distinct removes repeated ids from d.ids and keeps their order. seen is an
// open-addressing table of positions, at most half full.
func (d *decoder) distinct() []cloakroom.Pseudonym {
	size, shift := 16, 60
	for size < 2*len(d.ids) {
		size, shift = 2*size, shift-1
	}
	if cap(d.seen) < size {
		d.seen = make([]uint16, size)
	}
	seen := d.seen[:size]
	clear(seen)
	kept := d.ids[:0]
next:
	for _, id := range d.ids {
		at := hash(&id) >> shift
		for ; seen[at] != 0; at = (at + 1) & uint64(size-1) {
			if kept[seen[at]-1] == id {
				continue next
			}
		}
		kept = append(kept, id)
		seen[at] = uint16(len(kept))
	}
	return kept
}

func hash(id *cloakroom.Pseudonym) uint64 {
	a, b := binary.NativeEndian.Uint64(id[:8]), binary.NativeEndian.Uint64(id[8:])
	h := (a ^ hashSeed) * 0x9e3779b97f4a7c15
	return (h ^ h>>32 ^ b) * hashSeed
}

// deposit decodes {"domain"?,"fields":{…},"ttl"?}.
func (d *decoder) deposit(body []byte, out *Deposit) error {
	d.reset(body)
	d.fields, d.ttls = d.fields[:0], d.ttls[:0]
	*out = Deposit{}
	if err := d.subject(out, nil, false); err != nil {
		return err
	}
	return d.end()
}

// subject decodes one subject; in a batch it may have an id. With a source it
// takes that from the same object.
func (d *decoder) subject(out *Deposit, source *Source, batch bool) error {
	start := len(d.fields)
	var hasFields bool
	err := d.object("an object", func(name []byte) (err error) {
		switch string(name) {
		case "fields":
			hasFields = true
			return d.fieldMap(false)
		case "domain":
			out.Domain, err = d.word("a domain")
			return err
		case "ttl":
			return d.ttl(out)
		case "issuer":
			if source != nil {
				source.Issuer, err = d.sourceName("issuer", cloakroom.MaxIssuerBytes)
				return err
			}
		case "subject":
			if source != nil {
				source.Subject, err = d.sourceName("subject", cloakroom.MaxSourceBytes)
				return err
			}
		case "id":
			if batch {
				out.HasID = true
				out.ID, err = d.id()
				return err
			}
		}
		return d.fail("unknown member")
	})
	if err != nil {
		return err
	}
	if !hasFields {
		return d.fail("no member fields in the subject")
	}
	out.Fields = d.fields[start:len(d.fields):len(d.fields)]
	return fits(out.Fields)
}

// fits bounds the sum of a subject's values.
func fits(fields []FieldValue) error {
	total := 0
	for _, f := range fields {
		total += len(f.Value)
	}
	if total > cloakroom.MaxSubjectBytes {
		return &refusal{cloakroom.ErrTooLarge, "a subject holds at most " + strconv.Itoa(cloakroom.MaxSubjectBytes) + " bytes"}
	}
	return nil
}

func (d *decoder) id() (cloakroom.Pseudonym, error) {
	text, err := d.str("an id")
	if err != nil {
		return cloakroom.Pseudonym{}, err
	}
	id, err := cloakroom.ParsePseudonym(text)
	if err != nil {
		return id, &refusal{err, "id"}
	}
	return id, nil
}

// fieldMap decodes {"name": value, …} into d.fields.
func (d *decoder) fieldMap(patch bool) error {
	start := len(d.fields)
	return d.object("an object of fields", func(name []byte) (err error) {
		if !isWord(name) {
			return d.fail("malformed field name")
		}
		if len(d.fields)-start == cloakroom.MaxFields {
			return &refusal{cloakroom.ErrTooLarge, "more than " + strconv.Itoa(cloakroom.MaxFields) + " fields"}
		}
		f := FieldValue{Name: name, Kind: JSON}
		switch d.next() {
		case '"':
			f.Kind = String
			from := d.i
			f.Value, err = d.str("a value")
			f.Raw = d.b[from:d.i]
		case 'n':
			if !patch {
				return d.fail("null is for PATCH")
			}
			f.Kind = Null
			err = d.literal("null")
		default:
			from := d.i
			err = d.value(1)
			f.Value = d.b[from:d.i]
		}
		d.fields = append(d.fields, f)
		return err
	})
}

// patch decodes {"fields":{…},"ttl"?}; fields is a JSON Merge Patch (RFC 7396)
// of the subject's.
func (d *decoder) patch(body []byte, out *Deposit) error {
	d.reset(body)
	d.fields, d.ttls = d.fields[:0], d.ttls[:0]
	*out = Deposit{}
	var hasFields bool
	err := d.object("an object", func(name []byte) error {
		switch string(name) {
		case "fields":
			hasFields = true
			return d.fieldMap(true)
		case "ttl":
			return d.ttl(out)
		}
		return d.fail("unknown member")
	})
	if err == nil {
		err = d.end()
	}
	if err == nil && !hasFields {
		err = malformed("fields is required")
	}
	if err == nil {
		out.Fields = d.fields
		err = fits(out.Fields)
	}
	return err
}

// batch decodes {"subjects":[…]}.
func (d *decoder) batch(body []byte) ([]Deposit, error) {
	d.reset(body)
	d.fields, d.ttls = d.fields[:0], d.ttls[:0]
	var items []Deposit
	err := d.object("an object", func(name []byte) error {
		if string(name) != "subjects" {
			return d.fail("unknown member")
		}
		return d.array("an array of subjects", func(i int) error {
			if i == cloakroom.MaxBatchSubjects {
				return &refusal{cloakroom.ErrTooLarge, "more than " + strconv.Itoa(cloakroom.MaxBatchSubjects) + " subjects"}
			}
			var item Deposit
			err := d.subject(&item, nil, true)
			items = append(items, item)
			return inItem(i, err)
		})
	})
	if err == nil {
		err = d.end()
	}
	if err == nil && len(items) == 0 {
		err = malformed("subjects is required and holds at least one")
	}
	return items, err
}

// inItem puts the item's position in front of a refusal's detail.
func inItem(i int, err error) error {
	var why *refusal
	if !errors.As(err, &why) {
		return err
	}
	return &refusal{why.err, "subjects[" + strconv.Itoa(i) + "]: " + why.detail}
}

// whole checks that body is one JSON object.
func (d *decoder) whole(body []byte) error {
	d.reset(body)
	if d.next() != '{' {
		return d.fail("want an object")
	}
	if err := d.value(1); err != nil {
		return err
	}
	return d.end()
}

// ttl decodes the times to live of a subject: one for all its fields, as in
// "8760h", or one for each that is named, as in {"email":"24h"}.
func (d *decoder) ttl(out *Deposit) (err error) {
	if d.next() == '"' {
		out.HasTTL = true
		out.TTL, err = d.duration()
		return err
	}
	start := len(d.ttls)
	err = d.object("a duration or an object of durations", func(name []byte) error {
		if !isWord(name) {
			return d.fail("malformed field name")
		}
		if len(d.ttls)-start == cloakroom.MaxFields {
			return &refusal{cloakroom.ErrTooLarge, "more than " + strconv.Itoa(cloakroom.MaxFields) + " fields"}
		}
		ttl, err := d.duration()
		d.ttls = append(d.ttls, FieldTTL{Name: name, TTL: ttl})
		return err
	})
	out.TTLs = d.ttls[start:len(d.ttls):len(d.ttls)]
	return err
}

// MaxTTL is the longest time to live, a century: longer ones do not fit a
// record's expiry.
const MaxTTL = 100 * 365 * 24 * time.Hour

// duration decodes a time to live: whole hours, minutes and seconds, each at
// most once and in this order, as in "8760h" or "1h30m". One that is over
// already ("0s", "-1h") or longer than [MaxTTL], which then comes back as a
// little more, is well formed: the service refuses it with the other faults.
func (d *decoder) duration() (time.Duration, error) {
	text, err := d.str("a duration")
	if err != nil {
		return 0, err
	}
	past := len(text) > 0 && text[0] == '-'
	if past {
		text = text[1:]
	}
	if len(text) == 0 {
		return 0, d.fail("malformed duration")
	}
	var total time.Duration
	units := "hms"
	for len(text) > 0 {
		n, used := 0, 0
		for used < len(text) && used < 10 && text[used] >= '0' && text[used] <= '9' {
			n = n*10 + int(text[used]-'0')
			used++
		}
		if used == 0 || used == len(text) {
			return 0, d.fail("malformed duration")
		}
		var scale time.Duration
		for scale == 0 && units != "" {
			if units[0] == text[used] {
				scale = unitOf(units[0])
			}
			units = units[1:]
		}
		if scale == 0 {
			return 0, d.fail("malformed duration")
		}
		total = min(total+min(time.Duration(n), MaxTTL/scale+1)*scale, MaxTTL+time.Second)
		text = text[used+1:]
	}
	if past {
		total = -total
	}
	return total, nil
}

func unitOf(c byte) time.Duration {
	switch c {
	case 'h':
		return time.Hour
	case 'm':
		return time.Minute
	}
	return time.Second
}
