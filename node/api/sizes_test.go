package api

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// leastReply is less than the shortest answer with a value, header included.
const leastReply = 256

// TestPaddingIsAlwaysFound seals nothing: it holds every length that a write
// can have to what sealing in place needs of the allocator.
func TestPaddingIsAlwaysFound(t *testing.T) {
	sizes := findRecordSizes()
	zeros := make([]byte, recordHeader+maxRecord)
	padded := 0
	for n := leastReply; n <= maxRecord; n++ {
		k := sizes.padding(n)
		if k > 0 {
			padded++
		}
		if n+k >= maxRecord {
			continue // a full record's buffer serves the rest as well
		}
		record := append(make([]byte, recordHeader), zeros[:n+k]...)
		if room := cap(record) - len(record); room < recordGrowth {
			t.Fatalf("%d bytes and %d of padding: %d bytes of room behind the last record, want %d", n, k, room, recordGrowth)
		}
	}
	if padded == 0 || padded > maxRecord/8 {
		t.Errorf("%d of %d lengths are padded", padded, maxRecord)
	}
}

func TestPaddingIsAHeader(t *testing.T) {
	for n := len(paddingHeader); n <= maxPadding; n++ {
		const header = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
		padded := appendPadding([]byte(header), n)
		if len(padded) != len(header)+n {
			t.Fatalf("padding of %d: the header grew by %d", n, len(padded)-len(header))
		}
		reply := append(padded, "{}"...)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(reply)), nil)
		if err != nil {
			t.Fatalf("padding of %d: %v", n, err)
		}
		if got := resp.Header.Get("Padding"); got != strings.Repeat(".", n-len(paddingHeader)) || resp.ContentLength != 2 {
			t.Fatalf("padding of %d: header %q, length %d", n, got, resp.ContentLength)
		}
	}
}
