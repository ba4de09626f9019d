package dumptest

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func writeCore(t *testing.T, segments ...segment) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, makeCore(t, nil, segments), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindSchedules(t *testing.T) {
	key128, key256 := noise(t, 16), noise(t, 32)
	enc128, _ := expandKey(key128)
	enc256, dec256 := expandKey(key256)
	memory := noise(t, 3*chunkBytes)
	copy(memory[512:], bigEndian(enc128))
	copy(memory[chunkBytes-100:], littleEndian(enc256)) // across two chunks
	clean := noise(t, chunkBytes)
	copy(clean[64:], bigEndian(dec256))
	copy(clean[4096:], key256) // a key without its schedule is the other scan's
	copy(clean[8192:], bigEndian(enc256)[:236])

	for _, tc := range []struct {
		name string
		core string
		want [][]byte
	}{
		{"two keys", writeCore(t, segment{0x1000, clean}, segment{0x9000000, memory}), [][]byte{key128, key256}},
		{"twice the same", writeCore(t, segment{0x1000, append(bigEndian(enc256), bigEndian(enc256)...)}), [][]byte{key256}},
		{"none", writeCore(t, segment{0x1000, clean}, segment{0x9000000, make([]byte, 4*chunkBytes)}), nil},
	} {
		got, err := FindSchedules(tc.core)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, tc.want, bytes.Equal) {
			t.Errorf("%s: got %x, want %x", tc.name, got, tc.want)
		}
	}
}

func TestCondense(t *testing.T) {
	text := append(make([]byte, 5*pageBytes), "something"...)
	core := writeCore(t, segment{0x10000, text}, segment{0x90000, make([]byte, 3*chunkBytes)})
	to := filepath.Join(t.TempDir(), "memory")
	if err := Condense(core, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "something" {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := Condense(filepath.Join(t.TempDir(), "none"), to); err == nil {
		t.Error("condensed a core that is not there")
	}
}

// TestTLSKeys checks the derivation with what a TLS connection of this very
// process leaves on the heap: its key must be among those derived.
func TestTLSKeys(t *testing.T) {
	requireDump(t)
	var log bytes.Buffer
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer server.Close()
	conf := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.KeyLogWriter = &log
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	keys, err := TLSKeys(&log)
	if err != nil || len(keys) != 4 {
		t.Fatalf("got %d keys, %v, want 2 of the handshake and 2 of the traffic", len(keys), err)
	}
	found, err := FindSchedules(dumpOrSkip(t, os.Getpid(), "self"))
	if err != nil {
		t.Fatal(err)
	}
	if suite := conn.ConnectionState().CipherSuite; suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		t.Skip("this machine prefers ChaCha20, which has no schedule to find")
	}
	for _, key := range keys[2:] {
		if !slices.ContainsFunc(found, func(k []byte) bool { return bytes.Equal(k, key) }) {
			t.Errorf("traffic key %s is not among the %d schedules on the heap", hex.EncodeToString(key), len(found))
		}
	}
}
