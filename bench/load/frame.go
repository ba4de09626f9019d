package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var (
	headEnd       = []byte("\r\n\r\n")
	lineEnd       = []byte("\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// HTTP frames an HTTP/1.1 reply that has a Content-Length. Every status but
// 200 and 201 is an error.
func HTTP(b []byte) (int, error) {
	head := bytes.Index(b, headEnd)
	if head < 0 {
		return 0, nil
	}
	if len(b) < 12 || string(b[9:12]) != "200" && string(b[9:12]) != "201" {
		return 0, fmt.Errorf("reply: %s", firstLine(b))
	}
	at := bytes.Index(b[:head+2], contentLength)
	if at < 0 {
		return 0, errors.New("reply without Content-Length")
	}
	body, end := decimal(b[at+len(contentLength) : head+2])
	if end < 0 {
		return 0, errors.New("reply with a bad Content-Length")
	}
	if size := head + len(headEnd) + body; size <= len(b) {
		return size, nil
	}
	return 0, nil
}

// Body returns the body of a reply that [HTTP] framed.
func Body(reply []byte) []byte {
	_, body, _ := bytes.Cut(reply, headEnd)
	return body
}

// firstLine returns the status line, never a body: errors end up in logs.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, lineEnd)
	return strconv.Quote(string(line[:min(len(line), 80)]))
}

// decimal reads the digits up to the end of the line. It returns the offset
// after them, or -1 when there is no number.
func decimal(b []byte) (n, end int) {
	for i, c := range b {
		switch {
		case c == '\r' && i > 0:
			return n, i
		case c < '0' || c > '9' || n > 1<<30:
			return 0, -1
		}
		n = n*10 + int(c-'0')
	}
	return 0, -1
}

// RESP frames a Redis reply: a simple string, an integer, a bulk string, or
// an array of bulk strings. Errors and missing values are errors.
func RESP(b []byte) (int, error) {
	line := bytes.Index(b, lineEnd)
	if line < 0 {
		return 0, nil
	}
	switch b[0] {
	case '+', ':':
		return line + 2, nil
	case '$':
		return bulk(b, 0)
	case '*':
		count, end := decimal(b[1 : line+1])
		if end < 0 {
			return 0, errors.New("reply: bad array")
		}
		at := line + 2
		for range count {
			size, err := bulk(b, at)
			if size == 0 || err != nil {
				return 0, err
			}
			at = size
		}
		return at, nil
	}
	return 0, fmt.Errorf("reply: %s", firstLine(b))
}

// bulk returns the end of the bulk string at b[at:], or 0 when more is to
// come.
func bulk(b []byte, at int) (int, error) {
	line := bytes.Index(b[at:min(len(b), at+16)], lineEnd)
	if line < 0 {
		if len(b)-at >= 16 {
			return 0, errors.New("reply: bad bulk string")
		}
		return 0, nil
	}
	if b[at] != '$' || b[at+1] == '-' {
		return 0, errors.New("reply: a value is missing")
	}
	n, end := decimal(b[at+1 : at+line+1])
	if end < 0 {
		return 0, errors.New("reply: bad bulk string")
	}
	if total := at + line + 2 + n + 2; total <= len(b) {
		return total, nil
	}
	return 0, nil
}
