package nodefile

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value reads the text of one key into its place.
type value struct {
	want string // what is expected, for the reference and the faults
	set  func(text string) error
	text func() string // what is there, in some form that is good to compare
}

// An error of set is [errWant] if what was expected says all there is to say.
var errWant = errors.New("not what is expected")

// bind makes a value of the place it has and how its text is read.
func bind[T any](into *T, want string, parse func(text string) (T, error)) value {
	return value{want, func(text string) error {
		v, err := parse(text)
		if err == nil {
			*into = v
		}
		return err
	}, func() string { return fmt.Sprint(*into) }}
}

// matching takes a text as it is if it is valid.
func matching(into *string, want string, valid func(text string) bool) value {
	return bind(into, want, func(text string) (string, error) {
		if !valid(text) {
			return "", errWant
		}
		return text, nil
	})
}

func name(into *string) value {
	return matching(into, "1 to 64 lower-case letters, digits, '_', '-' and '.', a letter first", validName)
}

// optional takes an empty text for what is not given.
func optional(v value) value {
	set := v.set
	v.set = func(text string) error {
		if text == "" {
			return nil
		}
		return set(text)
	}
	return v
}

// validName is the rule that the directory has for names.
func validName(text string) bool {
	if text == "" || len(text) > 64 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func path(into *string) value {
	return matching(into, "a path; a relative one is taken from the folder of this file", func(text string) bool {
		return text != "" && !strings.ContainsRune(text, 0)
	})
}

func choice(into *string, of ...string) value {
	return matching(into, wantOne(of), func(text string) bool { return slices.Contains(of, text) })
}

func wantOne(of []string) string {
	if len(of) == 1 {
		return of[0]
	}
	return strings.Join(of[:len(of)-1], ", ") + " or " + of[len(of)-1]
}

// mode reads recovery.mode. The others are in the design and not built yet:
// to take one for none would lose what somebody trusts to be on disk.
func mode(into *string) value {
	return bind(into, "none", func(text string) (string, error) {
		switch text {
		case "none":
			return text, nil
		case "continuous", "periodic":
			return "", fmt.Errorf("%s is not in this version: what people deposited is kept in memory only; say none if that will do", text)
		}
		return "", errWant
	})
}

func number(into *int, from, to int) value {
	return bind(into, fmt.Sprintf("a number from %d to %d", from, to), func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < from || n > to {
			return 0, errWant
		}
		return n, nil
	})
}

func oneOf(into *int, of ...int) value {
	texts := make([]string, len(of))
	for i, n := range of {
		texts[i] = strconv.Itoa(n)
	}
	return bind(into, wantOne(texts), func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(of, n) {
			return 0, errWant
		}
		return n, nil
	})
}

func duration(into *time.Duration, from, to time.Duration) value {
	want := fmt.Sprintf("a time such as 90s or 10m, from %s to %s", short(from), short(to))
	return bind(into, want, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < from || d > to {
			return 0, errWant
		}
		return d, nil
	})
}

// short writes a duration the way people write it into the file.
func short(d time.Duration) string {
	text := d.String()
	if rest, whole := strings.CutSuffix(text, "m0s"); whole {
		text = rest + "m"
	}
	if rest, whole := strings.CutSuffix(text, "h0m"); whole {
		text = rest + "h"
	}
	return text
}

func size(into *int64, from, to int64) value {
	want := "a size such as 512MiB or 4GiB, from " + sizeText(from) + " to " + sizeText(to)
	return bind(into, want, func(text string) (int64, error) {
		n, ok := parseSize(text)
		if !ok || n < from || n > to {
			return 0, errWant
		}
		return n, nil
	})
}

var sizeUnits = [...]string{"KiB", "MiB", "GiB", "TiB"}

func parseSize(text string) (int64, bool) {
	for i, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		shift := 10 * (i + 1)
		return n << shift, err == nil && n > 0 && n < 1<<(62-shift)
	}
	return 0, false
}

func sizeText(n int64) string {
	unit := 0
	for n >>= 10; n >= 1024 && n%1024 == 0 && unit < len(sizeUnits)-1; n >>= 10 {
		unit++
	}
	return strconv.FormatInt(n, 10) + sizeUnits[unit]
}

func hostPort(into *string) value { return matching(into, "HOST:PORT", validHostPort) }

func validHostPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, " /@") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port
}

// maxSocketPath is what fits the address of a unix socket.
const maxSocketPath = 107

func hostPortOrSocket(into *string) value {
	return bind(into, "HOST:PORT, or unix:/path", func(text string) (string, error) {
		socket := socketOf(text)
		switch {
		case socket == "" && strings.HasPrefix(text, "unix:"):
			return "", errors.New("the path of the socket has to begin with /")
		case len(socket) > maxSocketPath:
			return "", fmt.Errorf("the path of a socket has at most %d bytes", maxSocketPath)
		case socket == "" && !validHostPort(text):
			return "", errWant
		}
		return text, nil
	})
}

// socketOf returns the path in unix:/path, or "".
func socketOf(listen string) string {
	socket, is := strings.CutPrefix(listen, "unix:")
	if !is || !strings.HasPrefix(socket, "/") {
		return ""
	}
	return socket
}
