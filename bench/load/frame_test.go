package load

import "testing"

func TestFramers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame Framer
		reply string
		bad   bool
	}{
		{"http", HTTP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		{"http created", HTTP, "HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 0\r\n\r\n", false},
		{"http denied", HTTP, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", true},
		{"http chunked", HTTP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true},
		{"http bad length", HTTP, "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", true},
		{"http huge length", HTTP, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", true},
		{"simple", RESP, "+OK\r\n", false},
		{"integer", RESP, ":1000\r\n", false},
		{"bulk", RESP, "$5\r\nhe\r\nl\r\n", false},
		{"empty bulk", RESP, "$0\r\n\r\n", false},
		{"array", RESP, "*3\r\n$1\r\na\r\n$0\r\n\r\n$2\r\nbc\r\n", false},
		{"nil", RESP, "$-1\r\n", true},
		{"nil inside", RESP, "*2\r\n$1\r\na\r\n$-1\r\n", true},
		{"error", RESP, "-OOM no\r\n", true},
		{"nested", RESP, "*1\r\n*1\r\n$1\r\na\r\n", true},
		{"no number", RESP, "$x\r\n", true},
	} {
		size, err := tc.frame([]byte(tc.reply))
		switch {
		case tc.bad && err == nil:
			t.Errorf("%s: got %d, want an error", tc.name, size)
		case !tc.bad && (err != nil || size != len(tc.reply)):
			t.Errorf("%s: got %d, %v, want %d", tc.name, size, err, len(tc.reply))
		}
		if tc.bad {
			continue
		}
		for cut := range len(tc.reply) {
			if size, err := tc.frame([]byte(tc.reply[:cut])); size != 0 || err != nil {
				t.Errorf("%s cut at %d: got %d, %v, want to wait", tc.name, cut, size, err)
			}
		}
		if size, err := tc.frame([]byte(tc.reply + tc.reply)); size != len(tc.reply) || err != nil {
			t.Errorf("%s twice: got %d, %v", tc.name, size, err)
		}
	}
}

// FuzzFramers checks that no reply makes a framer run past its end, and that
// what it takes for whole it takes for whole without what follows.
func FuzzFramers(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("*2\r\n$1\r\na\r\n$0\r\n\r\n"))
	f.Add([]byte("*1000000000\r\n$1000000000\r\n"))
	f.Add([]byte("\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, frame := range []Framer{HTTP, RESP} {
			size, err := frame(b)
			if size < 0 || size > len(b) {
				t.Fatalf("size %d of %d bytes", size, len(b))
			}
			if err != nil || size == 0 {
				continue
			}
			if again, err := frame(b[:size]); again != size || err != nil {
				t.Fatalf("alone: got %d, %v, want %d", again, err, size)
			}
		}
	})
}
