package securemem

import (
	"fmt"
	"io"
	"log/slog"
)

// concealedText is all that a secret ever shows of itself.
const concealedText = "[secret]"

// concealed is embedded by every type that holds plaintext or keys. Its
// methods have value receivers so that a copied secret is concealed as well as
// a pointer to one.
//
// fmt does not call methods of unexported fields of other people's structs;
// therefore such types must hold their memory behind an unsafe.Pointer, of
// which fmt can only print the address.
type concealed struct{}

// Format writes "[secret]" for every verb and flag.
func (concealed) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, concealedText) }

// String returns "[secret]".
func (concealed) String() string { return concealedText }

// GoString returns "[secret]".
func (concealed) GoString() string { return concealedText }

// MarshalText returns "[secret]".
func (concealed) MarshalText() ([]byte, error) { return []byte(concealedText), nil }

// MarshalJSON returns "[secret]" as a JSON string.
func (concealed) MarshalJSON() ([]byte, error) { return []byte(`"` + concealedText + `"`), nil }

// LogValue returns "[secret]".
func (concealed) LogValue() slog.Value { return slog.StringValue(concealedText) }
