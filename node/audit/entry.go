package audit

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Entry is one request as it is recorded. Every string in it is a name that
// the schema, the directory or this program gave; none is the caller's text.
type Entry struct {
	Request   []byte   // the request's own random id, as text
	Trace     [16]byte // trace id; zero: none
	Principal string
	Action    string
	Target    string   // the node or principal that a call of an operator is about
	Fields    []string // names of the fields asked for or written
	Form      string
	Purpose   string
	Asked     int // ids in the request
	Found     int
	Missing   int
	Outcome   string // "ok", "denied", "intent", …
}

// encoder turns entries into lines, format 1:
//
//	{"v":1,"seq":7,"time":"2026-01-02T03:04:05.000006Z","request":"…",
//	 "trace":"32 hex digits","principal":"…","action":"…","target":"…","fields":["…"],
//	 "form":"…","purpose":"…","asked":2,"found":1,"missing":1,"outcome":"…"}
//
// all on one line. Members that would be empty are left out, except the
// counts. seq counts from 1 for each life of a Log and has a gap where a line
// could not be written. Times are UTC.
type encoder struct {
	seq    uint64
	second int64  // unix time of prefix
	prefix []byte // that second as text
	buf    []byte
}

// line returns e as one line with its newline; it is valid until the next call.
func (c *encoder) line(now time.Time, e *Entry) []byte {
	c.seq++
	b := append(c.buf[:0], `{"v":1,"seq":`...)
	b = strconv.AppendUint(b, c.seq, 10)
	b = append(b, `,"time":"`...)
	b = c.appendTime(b, now)
	b = append(b, `","request":`...)
	b = appendQuoted(b, e.Request)
	if e.Trace != [16]byte{} {
		b = append(b, `,"trace":"`...)
		b = appendHex(b, e.Trace[:])
		b = append(b, '"')
	}
	b = appendMember(b, `,"principal":`, e.Principal)
	b = appendMember(b, `,"action":`, e.Action)
	b = appendMember(b, `,"target":`, e.Target)
	b = appendFields(b, e.Fields)
	b = appendMember(b, `,"form":`, e.Form)
	b = appendMember(b, `,"purpose":`, e.Purpose)
	b = append(b, `,"asked":`...)
	b = strconv.AppendInt(b, int64(e.Asked), 10)
	b = append(b, `,"found":`...)
	b = strconv.AppendInt(b, int64(e.Found), 10)
	b = append(b, `,"missing":`...)
	b = strconv.AppendInt(b, int64(e.Missing), 10)
	b = appendMember(b, `,"outcome":`, e.Outcome)
	b = append(b, "}\n"...)
	c.buf = b
	return b
}

// appendTime writes RFC 3339 with microseconds. Formatting a date is most of
// the cost of a line, so the part that stays for a second is kept.
func (c *encoder) appendTime(b []byte, now time.Time) []byte {
	if second := now.Unix(); second != c.second || c.prefix == nil {
		c.second = second
		c.prefix = now.UTC().AppendFormat(c.prefix[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, c.prefix...)
	micros := now.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+micros/unit%10))
	}
	return append(b, 'Z')
}

func appendMember(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendQuoted(append(b, key...), value)
}

func appendFields(b []byte, names []string) []byte {
	if len(names) == 0 {
		return b
	}
	b = append(b, `,"fields":[`...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, name)
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"

func appendHex(b, raw []byte) []byte {
	for _, c := range raw {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// appendQuoted writes s as a JSON string. Names are plain ASCII; whatever
// else might come is escaped so that it can end neither string nor line.
func appendQuoted[S string | []byte](b []byte, s S) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c >= ' ' && c < utf8.RuneSelf && c != 0x7f:
			b = append(b, c)
			i++
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default: // an invalid byte becomes U+FFFD
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			b = utf8.AppendRune(b, r)
			i += size
		}
	}
	return append(b, '"')
}
