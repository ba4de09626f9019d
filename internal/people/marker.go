package people

// A marked value carries an infix of 16 letters and digits: 8 that all people
// of a seed share, so that one pattern finds any of them, then 8 that are the
// person's own, so that each 8-byte window of the infix is worth a match. The
// infix stands at the front of a third of the names, in the middle of a third
// and at the end of a third: a leak of only the first or last bytes of a value
// is seen too.
const (
	markerBytes = 8
	infixBytes  = 16
)

// letters are those of base 62; no English word, path or symbol of eight
// letters looks like a random draw from them.
const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Marker returns the eight bytes that every marked value of the crowd holds.
func (p *People) Marker() []byte { return append([]byte(nil), p.marker[:]...) }

// Infix returns the sixteen bytes that the values of person i hold.
func (p *People) Infix(i uint64) []byte { return p.appendInfix(nil, i) }

func (p *People) appendInfix(dst []byte, i uint64) []byte {
	b := p.infix(i)
	return append(dst, b[:]...)
}

func (p *People) infix(i uint64) (b [infixBytes]byte) {
	copy(b[:], p.marker[:])
	r := p.random(i, drawMark)
	for at := markerBytes; at < infixBytes; at++ {
		b[at] = letters[r.below(uint64(len(letters)))]
	}
	return b
}

func markerOf(seed uint64) (m [markerBytes]byte) {
	r := random{mix(seed ^ 0xc10a4d00)}
	for i := range m {
		m[i] = letters[r.below(uint64(len(letters)))]
	}
	return m
}

func (p *People) appendMarked(dst []byte, i uint64, w who) []byte {
	switch i % 3 {
	case 0:
		dst = p.appendInfix(dst, i)
		dst = append(dst, ' ')
		return w.appendFamily(dst)
	case 1:
		dst = w.appendGiven(dst)
		dst = append(dst, ' ')
		dst = p.appendInfix(dst, i)
		dst = append(dst, ' ')
		return w.appendFamily(dst)
	default:
		dst = w.appendGiven(dst)
		dst = append(dst, ' ')
		return p.appendInfix(dst, i)
	}
}
