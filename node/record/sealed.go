package record

import "encoding/base64"

// Client-sealed values are opaque bytes here and standard base64 with padding
// in the API. They are ciphertext to the node, so these two need no guarded
// memory, but work in it as well.

// DecodeSealed decodes text in place and returns the bytes, which alias it. It
// refuses line breaks, missing padding and stray bits, so that one value has
// one text.
func DecodeSealed(text []byte) ([]byte, error) {
	if len(text) == 0 {
		return nil, reasonEmpty
	}
	if len(text)%4 != 0 {
		return nil, reasonBase64
	}
	out := text[:0]
	var group [3]byte
	for i := 0; i < len(text); i += 4 {
		quad := text[i : i+4]
		// Decode skips line breaks by itself; a group of fewer than four
		// characters then decodes short, or joins with padding.
		for _, c := range quad {
			if c == '\n' || c == '\r' {
				return nil, reasonBase64
			}
		}
		n, err := strictBase64.Decode(group[:], quad)
		if err != nil || n < 3 && i+4 < len(text) {
			return nil, reasonBase64
		}
		out = append(out, group[:n]...)
	}
	return out, nil
}

// AppendSealed appends the base64 text of value to dst.
func AppendSealed(dst, value []byte) []byte {
	return base64.StdEncoding.AppendEncode(dst, value)
}

var strictBase64 = base64.StdEncoding.Strict()
