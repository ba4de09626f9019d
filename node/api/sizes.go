package api

// crypto/tls seals a TLS 1.3 record in place: it appends the plaintext to a
// buffer of its own, then a byte for the content type and 16 for the tag. When
// the buffer ends within those 17, append moves to a new one and leaves the
// plaintext behind for the garbage collector. Buffers end at size classes of
// the allocator, so only a few lengths are at risk: 17 below each class. A
// reply of such a length gets a header more.
const (
	maxRecord    = 16 << 10 // plaintext of one record (RFC 8446, 5.1)
	recordGrowth = 1 + 16   // content type, tag
)

// recordSizes are the allocator's size classes up to a full record.
type recordSizes []int

// findRecordSizes asks the allocator by appending.
func findRecordSizes() (sizes recordSizes) {
	zeros := make([]byte, recordHeader+maxRecord+recordGrowth)
	for n := 1; n <= len(zeros); {
		class := cap(append([]byte(nil), zeros[:n]...))
		sizes = append(sizes, class)
		n = class + 1
	}
	return sizes
}

// safe says whether no buffer ends between n bytes of plaintext and their tag.
// What follows a full record goes into the buffer of that one, which is larger.
func (s recordSizes) safe(n int) bool {
	from := recordHeader + n
	for _, class := range s {
		if n < maxRecord && class >= from {
			return class >= from+recordGrowth
		}
	}
	return true
}

// padding is how many bytes a write of n bytes needs more, 0 if none: at least
// those of an empty padding header, at most maxPadding.
func (s recordSizes) padding(n int) int {
	// None is found only for answers shorter than any with a value:
	// TestPaddingIsAlwaysFound.
	return s.more(n, len(paddingHeader), maxPadding)
}

// more is how many bytes, from least to most, a write of n bytes needs more; 0
// if none, or if none of these will do.
func (s recordSizes) more(n, least, most int) int {
	if s.safe(n) {
		return 0
	}
	for k := least; k <= most; k++ {
		if s.safe(n + k) {
			return k
		}
	}
	return 0
}

// paddingHeader is a header line without a value; dots go before its end.
const paddingHeader = "Padding: \r\n"

// maxPadding bounds the padding, in bytes.
const maxPadding = 64

// appendPadding appends a padding header of n bytes to a header block that
// ends with its empty line.
func appendPadding(header []byte, n int) []byte {
	const end = "\r\n"
	header = header[:len(header)-len(end)]
	header = append(header, paddingHeader[:len(paddingHeader)-len(end)]...)
	for range n - len(paddingHeader) {
		header = append(header, '.')
	}
	return append(header, end+end...)
}
