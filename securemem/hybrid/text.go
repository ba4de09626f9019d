package hybrid

import "strings"

// The text of a recipient is Bech32 (BIP 173, without its limit of 90
// characters), as the age module writes it but does not let others.
const (
	textPrefix  = "age1pq"
	textLetters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	textCheck   = 6 // letters of checksum
)

// encodeText writes a public key as text.
func encodeText(public []byte) string {
	groups := make([]byte, 0, len(public)*8/5+1+textCheck)
	acc, bits := uint32(0), 0
	for _, b := range public {
		acc, bits = acc<<8|uint32(b), bits+8
		for bits >= 5 {
			bits -= 5
			groups = append(groups, byte(acc>>bits)&31)
		}
	}
	if bits > 0 {
		groups = append(groups, byte(acc<<(5-bits))&31)
	}
	sum := checksum(groups)
	var text strings.Builder
	text.WriteString(textPrefix + "1")
	for _, g := range groups {
		text.WriteByte(textLetters[g])
	}
	for i := range textCheck {
		text.WriteByte(textLetters[sum>>(5*(textCheck-1-i))&31])
	}
	return text.String()
}

// checksum is that of Bech32 over the prefix and groups of five bits.
func checksum(groups []byte) uint32 {
	sum := uint32(1)
	take := func(value byte) {
		top := sum >> 25
		sum = (sum&0x1ffffff)<<5 ^ uint32(value)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	for _, c := range []byte(textPrefix) {
		take(c >> 5)
	}
	take(0)
	for _, c := range []byte(textPrefix) {
		take(c & 31)
	}
	for _, g := range groups {
		take(g)
	}
	for range textCheck {
		take(0)
	}
	return sum ^ 1
}
