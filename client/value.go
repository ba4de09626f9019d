package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unicode/utf8"
)

// Value is the value of one field: text, a JSON value of a json field, or
// null. It prints as [value] with every verb and in logs, so that no format
// string leaks it by accident; [Value.Text] and [Value.JSON] are the ways in.
// encoding/json sees the value itself.
type Value struct {
	text string
	raw  json.RawMessage // set for everything but text
}

// Fields are the values of a subject by field name.
type Fields map[string]Value

// Text makes a value of text.
func Text(text string) Value { return Value{text: text} }

// JSON makes a value of one JSON value, for fields of type json. raw is not
// copied.
func JSON(raw json.RawMessage) Value { return Value{raw: raw} }

// Null is the value that makes [Client.Patch] remove a field.
func Null() Value { return Value{raw: json.RawMessage("null")} }

// Text returns the text, or the JSON text of a value that is not text.
func (v Value) Text() string {
	if v.raw != nil {
		return string(v.raw)
	}
	return v.text
}

// IsText reports whether the value is text and no other JSON value.
func (v Value) IsText() bool { return v.raw == nil }

// MarshalJSON returns the value itself.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.raw != nil {
		return v.raw, nil
	}
	if !utf8.ValidString(v.text) {
		return nil, errNotUTF8 // json.Marshal would store another value
	}
	return json.Marshal(v.text)
}

var errNotUTF8 = errors.New("a value is not valid UTF-8")

// UnmarshalJSON reads any JSON value.
func (v *Value) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		v.raw = nil
		return json.Unmarshal(raw, &v.text)
	}
	v.text, v.raw = "", append(json.RawMessage(nil), raw...)
	return nil
}

// Format prints a placeholder, whatever the verb.
func (v Value) Format(s fmt.State, _ rune) { io.WriteString(s, "[value]") }

// String returns a placeholder.
func (v Value) String() string { return "[value]" }

// LogValue returns a placeholder.
func (v Value) LogValue() slog.Value { return slog.StringValue("[value]") }

// LogValue returns the number of fields and none of their values: a JSON log
// handler would otherwise marshal them.
func (f Fields) LogValue() slog.Value { return slog.IntValue(len(f)) }
