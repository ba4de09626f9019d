package securemem

import "unsafe"

// ViewString views s as bytes without a copy. Nobody may change them: the
// compiler takes a string for constant. It stands here so that unsafe stands
// in this room only.
func ViewString(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
