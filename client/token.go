package client

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// maxTokenBytes bounds a token file; anything longer is not a token.
const maxTokenBytes = 4096

// Token is a bearer token. It prints as [secret] with every verb, in JSON and
// in logs.
type Token struct{ text string }

// NewToken makes a token of its text, without surrounding white space. It
// refuses what could not stand in a header.
func NewToken(text []byte) (Token, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return Token{}, fmt.Errorf("the token is empty")
	}
	if len(text) > maxTokenBytes {
		return Token{}, fmt.Errorf("the token is longer than %d bytes", maxTokenBytes)
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return Token{}, fmt.Errorf("the token holds a character that cannot stand in a header")
		}
	}
	return Token{string(text)}, nil
}

// ReadToken reads a token from the file at path; "-" is standard input.
func ReadToken(path string) (Token, error) {
	text, err := readTokenFile(path)
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	token, err := NewToken(text)
	if err != nil {
		return Token{}, fmt.Errorf("read token from %s: %w", path, err)
	}
	return token, nil
}

func readTokenFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxTokenBytes+2))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxTokenBytes+2))
}

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t.text == "" }

// Format prints a placeholder, whatever the verb.
func (t Token) Format(s fmt.State, _ rune) { io.WriteString(s, "[secret]") }

// String returns a placeholder.
func (t Token) String() string { return "[secret]" }

// MarshalText returns a placeholder.
func (t Token) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// LogValue returns a placeholder.
func (t Token) LogValue() slog.Value { return slog.StringValue("[secret]") }
