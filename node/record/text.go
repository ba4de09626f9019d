package record

import "unicode/utf8"

// checkText wants valid UTF-8 without control characters: C0 (NUL and line
// breaks among them), DEL and C1. Such characters have no place in a name and
// are what log and terminal injection is made of.
func checkText(value []byte) Reason {
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return reasonControl
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(value[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return reasonUTF8
		case r < 0xa0: // C1
			return reasonControl
		}
		i += n
	}
	return ""
}
