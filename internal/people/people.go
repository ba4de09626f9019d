// Package people makes up people for benchmarks, tests and samples: names in
// many scripts and lengths, with an e-mail address, a phone number, a date of
// birth and a postal address each. Nobody in it exists.
//
// Person i of a seed is always the same and is computed from (seed, i) alone,
// so a benchmark can check an answer about one of a million people without
// keeping any of them. [People] is safe for concurrent use.
package people

import (
	"errors"
	"fmt"
	"strconv"

	"cloakroom"
)

// Config says which people to make up.
type Config struct {
	// Seed picks the crowd. Every value is fine, zero too.
	Seed uint64
	// Marked puts an infix into every name, e-mail address and street that
	// stands nowhere else in the world, so that eight bytes of one found in
	// a memory dump prove where they came from. See [People.Marker].
	Marked bool
	// NameBytes makes every display name exactly this long, in bytes of
	// UTF-8; 0 leaves lengths natural, about 25 bytes on average.
	NameBytes int
}

// MaxNameBytes bounds Config.NameBytes.
const MaxNameBytes = 256

// Person is one made-up person. The values fit the types of the `dev` schema.
type Person struct {
	DisplayName string
	Email       string
	Phone       string // E.164
	BirthDate   string // RFC 3339 full-date
	Address     string // a JSON object
}

// People is an endless crowd, indexed from 0.
type People struct {
	cfg     Config
	marker  [markerBytes]byte
	weights int
}

// New returns the crowd that cfg describes.
func New(cfg Config) (*People, error) {
	var faults []error
	if cfg.NameBytes < 0 || cfg.NameBytes > MaxNameBytes {
		faults = append(faults, fmt.Errorf("NameBytes is %d, want 0 to %d", cfg.NameBytes, MaxNameBytes))
	}
	if cfg.Marked && cfg.NameBytes != 0 && cfg.NameBytes < infixBytes {
		faults = append(faults, fmt.Errorf("NameBytes is %d, want at least %d for a marked name", cfg.NameBytes, infixBytes))
	}
	p := &People{cfg: cfg}
	p.marker = markerOf(cfg.Seed)
	for i := range cultures {
		p.weights += cultures[i].weight
	}
	return p, errors.Join(faults...)
}

// ID returns the pseudonym of person i, a version-4 UUID.
func (p *People) ID(i uint64) cloakroom.Pseudonym {
	r := p.random(i, drawID)
	var id cloakroom.Pseudonym
	for at := 0; at < len(id); at += 8 {
		word := r.next()
		for b := range 8 {
			id[at+b] = byte(word >> (8 * b))
		}
	}
	id.SetRandomForm()
	return id
}

// Person returns person i with all values.
func (p *People) Person(i uint64) Person {
	return Person{
		DisplayName: string(p.AppendName(nil, i)),
		Email:       string(p.AppendEmail(nil, i)),
		Phone:       string(p.AppendPhone(nil, i)),
		BirthDate:   string(p.AppendBirthDate(nil, i)),
		Address:     string(p.AppendAddress(nil, i)),
	}
}

// AppendName appends the display name of person i to dst, in UTF-8.
func (p *People) AppendName(dst []byte, i uint64) []byte {
	start := len(dst)
	w := p.who(i)
	switch {
	case p.cfg.Marked:
		dst = p.appendMarked(dst, i, w)
	default:
		dst = w.appendName(dst)
	}
	if n := p.cfg.NameBytes; n > 0 {
		dst = fit(dst, start, n, p.random(i, drawPad))
		if p.cfg.Marked {
			// The infix must survive the cut.
			p.appendInfix(dst[:start+n-infixBytes], i)
			scrubCut(dst[start : start+n-infixBytes])
		}
	}
	return dst
}

// AppendEmail appends the e-mail address of person i to dst, in ASCII.
func (p *People) AppendEmail(dst []byte, i uint64) []byte {
	w := p.who(i)
	r := p.random(i, drawEmail)
	dst = append(dst, w.culture.given[w.given].roman...)
	dst = append(dst, '.')
	if p.cfg.Marked {
		dst = p.appendInfix(dst, i)
	} else {
		dst = append(dst, w.culture.family[w.family].roman...)
		dst = strconv.AppendUint(dst, r.below(10_000), 10)
	}
	dst = append(dst, '@')
	return append(dst, mailHosts[r.below(uint64(len(mailHosts)))]...)
}

// AppendPhone appends the phone number of person i to dst, in E.164.
func (p *People) AppendPhone(dst []byte, i uint64) []byte {
	c := p.who(i).culture
	r := p.random(i, drawPhone)
	dst = append(dst, '+')
	dst = append(dst, c.dial...)
	dst = append(dst, '1'+byte(r.below(9)))
	for range c.digits - 1 {
		dst = append(dst, '0'+byte(r.below(10)))
	}
	return dst
}

// AppendBirthDate appends the date of birth of person i to dst: a day from
// 1930 to 2011 that exists.
func (p *People) AppendBirthDate(dst []byte, i uint64) []byte {
	r := p.random(i, drawBirth)
	dst = strconv.AppendUint(dst, 1930+r.below(82), 10)
	dst = append(dst, '-')
	dst = appendTwoDigits(dst, 1+r.below(12))
	dst = append(dst, '-')
	return appendTwoDigits(dst, 1+r.below(28))
}

// AppendAddress appends the postal address of person i to dst, a JSON object.
func (p *People) AppendAddress(dst []byte, i uint64) []byte {
	w := p.who(i)
	r := p.random(i, drawAddress)
	place := w.culture.places[r.below(uint64(len(w.culture.places)))]
	dst = append(dst, `{"street":"`...)
	dst = append(dst, w.culture.streets[r.below(uint64(len(w.culture.streets)))]...)
	dst = append(dst, ' ')
	if p.cfg.Marked {
		dst = p.appendInfix(dst, i)
		dst = append(dst, ' ')
	}
	dst = strconv.AppendUint(dst, 1+r.below(240), 10)
	dst = append(dst, `","postal_code":"`...)
	dst = strconv.AppendUint(dst, 10_000+r.below(89_999), 10)
	dst = append(dst, `","city":"`...)
	dst = append(dst, place...)
	dst = append(dst, `","country":"`...)
	dst = append(dst, w.culture.country...)
	return append(dst, `"}`...)
}

func appendTwoDigits(dst []byte, n uint64) []byte {
	return append(dst, '0'+byte(n/10), '0'+byte(n%10))
}
