package people

import "unicode/utf8"

// culture is one way to be called, and where such a person lives.
type culture struct {
	weight      int
	country     string // ISO 3166-1
	dial        string // country calling code
	digits      int    // of the national number
	familyFirst bool
	joined      bool // no space between family and given name
	second      int  // per cent of people with a second given name
	double      int  // per cent of people with two family names
	hyphen      byte // between two family names
	given       []name
	family      []name
	streets     []string
	places      []string
}

// name is a part of a name, as written and in the ASCII letters its bearer
// would use in an e-mail address.
type name struct{ native, roman string }

// who is what is drawn about one person before anything is written down.
type who struct {
	culture       *culture
	given, family int
	second, other int // -1: none
}

func (p *People) who(i uint64) who {
	r := p.random(i, drawWho)
	at := int(r.below(uint64(p.weights)))
	c := 0
	for at >= cultures[c].weight {
		at -= cultures[c].weight
		c++
	}
	w := who{culture: &cultures[c], second: -1, other: -1}
	given, family := uint64(len(w.culture.given)), uint64(len(w.culture.family))
	w.given, w.family = int(r.below(given)), int(r.below(family))
	if int(r.below(100)) < w.culture.second {
		w.second = int(r.below(given))
	}
	if int(r.below(100)) < w.culture.double {
		w.other = int(r.below(family))
	}
	return w
}

func (w who) appendName(dst []byte) []byte {
	if w.culture.familyFirst {
		dst = w.appendFamily(dst)
		if !w.culture.joined {
			dst = append(dst, ' ')
		}
		return w.appendGiven(dst)
	}
	dst = w.appendGiven(dst)
	dst = append(dst, ' ')
	return w.appendFamily(dst)
}

func (w who) appendGiven(dst []byte) []byte {
	dst = append(dst, w.culture.given[w.given].native...)
	if w.second >= 0 {
		if !w.culture.joined {
			dst = append(dst, ' ')
		}
		dst = append(dst, w.culture.given[w.second].native...)
	}
	return dst
}

func (w who) appendFamily(dst []byte) []byte {
	dst = append(dst, w.culture.family[w.family].native...)
	if w.other >= 0 {
		dst = append(dst, w.culture.hyphen)
		dst = append(dst, w.culture.family[w.other].native...)
	}
	return dst
}

// fit makes dst[start:] exactly n bytes long: cut at a rune boundary, then
// filled up with small letters.
func fit(dst []byte, start, n int, r random) []byte {
	if len(dst)-start > n {
		cut := start + n
		for !utf8.RuneStart(dst[cut]) {
			cut--
		}
		dst = dst[:cut]
	}
	for len(dst)-start < n {
		dst = append(dst, 'a'+byte(r.below(26)))
	}
	return dst
}

// scrubCut replaces what is left of a rune at the end of b by letters.
func scrubCut(b []byte) {
	end := len(b)
	for cut := end; cut > 0 && cut > end-utf8.UTFMax; {
		cut--
		if utf8.RuneStart(b[cut]) {
			if !utf8.FullRune(b[cut:end]) {
				for i := cut; i < end; i++ {
					b[i] = 'o'
				}
			}
			return
		}
	}
}
