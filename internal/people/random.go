package people

import "math/bits"

// What is drawn about a person, so that no two draws share a stream.
const (
	drawWho = iota
	drawID
	drawEmail
	drawPhone
	drawBirth
	drawAddress
	drawMark
	drawPad
)

// random is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
// number generators, 2014): small enough to be made anew for every person.
type random struct{ state uint64 }

func (p *People) random(i, draw uint64) random {
	return random{mix(p.cfg.Seed*0x9e3779b97f4a7c15+draw) ^ mix(i+0x632be59bd9b4e019)}
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	return mix(r.state)
}

// below returns a number from 0 to n-1 (Lemire's multiplication; the bias of
// n / 2^64 is of no matter here).
func (r *random) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.next(), n)
	return hi
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
