package api

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"testing"
)

// roundTrips sends one request over and over on a few connections and reads
// the answers without parsing more of them than it must.
func roundTrips(b *testing.B, f *front, text string) {
	b.Helper()
	b.SetParallelism(4)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c := f.dial()
		r := bufio.NewReaderSize(c, 32<<10)
		for pb.Next() {
			if err := roundTrip(c, r, []byte(text)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func roundTrip(c net.Conn, r *bufio.Reader, text []byte) error {
	if _, err := c.Write(text); err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(n)))
		}
		if len(line) == 2 {
			break
		}
	}
	_, err := r.Discard(length)
	return err
}

func fastService() *fakeService {
	return &fakeService{fast: true, quoted: []byte(`"display_name":`), values: map[string]string{"display_name": "Ada Byron King of Lovelace"}}
}

func fixedBytes(n int) func(*Config) {
	content := bytes.Repeat([]byte{'x'}, n)
	return func(c *Config) { c.Fixed = func(string, string) []byte { return content } }
}

func BenchmarkResolve100(b *testing.B) {
	f := start(b, fastService())
	roundTrips(b, f, request("POST", "/v1/resolve", resolveBody(randomIDs(100), `"display_name"`)))
}

func BenchmarkResolve100Ceiling(b *testing.B) {
	f := start(b, fastService(), fixedBytes(6700))
	roundTrips(b, f, request("POST", "/v1/resolve", resolveBody(randomIDs(100), `"display_name"`)))
}

func BenchmarkResolve100TLS(b *testing.B) {
	f := startTLS(b, fastService())
	roundTrips(b, f, request("POST", "/v1/resolve", resolveBody(randomIDs(100), `"display_name"`)))
}

func BenchmarkGet(b *testing.B) {
	f := start(b, fastService())
	roundTrips(b, f, request("GET", "/v1/subjects/"+testID, ""))
}

func BenchmarkGetCeiling(b *testing.B) {
	f := start(b, fastService(), fixedBytes(130))
	roundTrips(b, f, request("GET", "/v1/subjects/"+testID, ""))
}

func BenchmarkDecodeResolve100(b *testing.B) {
	body := []byte(resolveBody(randomIDs(100), `"display_name"`))
	var d decoder
	var q Query
	var purpose []byte
	b.ReportAllocs()
	for b.Loop() {
		if err := d.resolve(body, &q, &purpose); err != nil {
			b.Fatal(err)
		}
	}
}
