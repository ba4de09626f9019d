package dumptest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// AddForms puts the other ways to write an ASCII marker into p, each under a
// class of its own: UTF-16, JSON \u escapes, hex and base64. The marker must
// be long enough for six base64 letters to be no accident: 8 bytes.
func AddForms(p *Patterns, what string, marker []byte) {
	var le, be, lower, upper []byte
	for _, b := range marker {
		le = append(le, b, 0)
		be = append(be, 0, b)
		lower = fmt.Appendf(lower, `\u%04x`, b)
		upper = fmt.Appendf(upper, `\u%04X`, b)
	}
	wide := p.Class(what+", UTF-16", 12) // one class: the byte orders share windows
	p.Add(wide, le)
	p.Add(wide, be)
	escaped := p.Class(what+", JSON escapes", 24)
	p.Add(escaped, lower)
	p.Add(escaped, upper)
	addHex(p, what, marker)
	in64 := p.Class(what+", base64", 8)
	for phase := range 3 {
		p.Add(in64, base64Core(marker, phase))
	}
}

func addHex(p *Patterns, what string, b []byte) {
	text := hex.EncodeToString(b)
	inHex := p.Class(what+", hex", 16)
	p.Add(inHex, []byte(text))
	p.Add(inHex, []byte(strings.ToUpper(text)))
}

// base64Core returns the letters that stand for b alone when phase bytes of
// something else come before it and anything may follow.
func base64Core(b []byte, phase int) []byte {
	text := base64.StdEncoding.EncodeToString(append(make([]byte, phase), b...))
	from := (phase*8 + 5) / 6
	to := (phase + len(b)) * 8 / 6
	return []byte(text)[from:to]
}

// Key is a secret that must not be found.
type Key struct {
	Name  string
	Bytes []byte
}

// AddKeys puts the keys into p: raw, in hex, and as what AES makes of a key of
// 16 or 32 bytes (round keys of both directions, and the GHASH key, which
// stands for the key in AES-GCM).
func AddKeys(p *Patterns, keys []Key) {
	raw := p.Class("raw key", Window)
	inHex := p.Class("key in hex", 16)
	rounds := p.Class("AES round key", Window)
	ghash := p.Class("GHASH key", Window)
	for _, k := range keys {
		p.Add(raw, k.Bytes)
		text := hex.EncodeToString(k.Bytes)
		p.Add(inHex, []byte(text))
		p.Add(inHex, []byte(strings.ToUpper(text)))
		if len(k.Bytes) != 16 && len(k.Bytes) != 32 {
			continue
		}
		enc, dec := expandKey(k.Bytes)
		for _, words := range [][]uint32{enc, dec} {
			p.Add(rounds, bigEndian(words))
			p.Add(rounds, littleEndian(words))
		}
		h := ghashKey(k.Bytes)
		p.Add(ghash, h)
		p.Add(ghash, reversed(h))
	}
}
