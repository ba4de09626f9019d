package record

import "cloakroom"

// Type says what a field's values look like. The numbers stand in schemas and
// never change.
type Type uint8

const (
	Text   Type = 1 // one line of Unicode text
	Email  Type = 2 // an e-mail address, RFC 5321 and 6531 without quoting
	Phone  Type = 3 // an E.164 number with its plus sign
	Date   Type = 4 // an RFC 3339 full-date: 2006-01-02
	JSON   Type = 5 // any JSON value but null, strict, at most [MaxJSONDepth] deep
	Sealed Type = 6 // sealed by the client: opaque bytes, base64 in the API
)

var typeNames = [...]string{Text: "text", Email: "email", Phone: "phone", Date: "date", JSON: "json", Sealed: "sealed"}

// ParseType reads the name a schema uses.
func ParseType(name string) (Type, error) {
	for t := Text; t <= Sealed; t++ {
		if typeNames[t] == name {
			return t, nil
		}
	}
	return 0, Reason("is not a type: want text, email, phone, date, json or sealed")
}

// String returns the name a schema uses.
func (t Type) String() string {
	if t < Text || t > Sealed {
		return "unknown"
	}
	return typeNames[t]
}

// RawJSON reports whether a value of the type is itself JSON and goes into a
// reply as it is; values of the other types go in as JSON strings.
func (t Type) RawJSON() bool { return t == JSON }

// MaxValueBytes bounds one value: its two-byte length and its padding must
// stay within 64 KiB.
const MaxValueBytes = 64<<10 - lengthBytes

// Reason says why a value does not fit its field, in words that can follow the
// field's name. It is always one of the constants below, so it never holds
// anything of the value. It unwraps to [cloakroom.ErrSchema].
type Reason string

// Error returns the reason.
func (r Reason) Error() string { return string(r) }

// Unwrap makes every Reason a [cloakroom.ErrSchema].
func (r Reason) Unwrap() error { return cloakroom.ErrSchema }

const (
	reasonType     = Reason("has an unknown type")
	reasonEmpty    = Reason("is empty")
	reasonLong     = Reason("is too long")
	reasonUTF8     = Reason("is not valid UTF-8")
	reasonControl  = Reason("holds a control character")
	reasonEmail    = Reason("is not an e-mail address")
	reasonPhone    = Reason("is not an E.164 number: want a plus sign and at most 15 digits")
	reasonDate     = Reason("is not a date: want YYYY-MM-DD")
	reasonJSON     = Reason("is not valid JSON")
	reasonNull     = Reason("is null")
	reasonDeep     = Reason("is nested too deeply")
	reasonMembers  = Reason("has too many members")
	reasonRepeated = Reason("names a member twice")
	reasonBase64   = Reason("is not standard base64")
)

// Check reports whether value may be sealed as a value of type t of at most
// maxBytes bytes; maxBytes 0 stands for [MaxValueBytes]. The error is a
// [Reason]. It neither keeps nor copies value and does not allocate.
func Check(t Type, value []byte, maxBytes int) error {
	if maxBytes <= 0 || maxBytes > MaxValueBytes {
		maxBytes = MaxValueBytes
	}
	switch {
	case len(value) == 0:
		return reasonEmpty
	case len(value) > maxBytes:
		return reasonLong
	}
	var why Reason
	switch t {
	case Text:
		why = checkText(value)
	case Email:
		why = checkEmail(value)
	case Phone:
		why = checkPhone(value)
	case Date:
		why = checkDate(value)
	case JSON:
		why = checkJSON(value)
	case Sealed:
	default:
		why = reasonType
	}
	if why != "" {
		return why
	}
	return nil
}
