package dumptest

import (
	"bufio"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

// TLSKeys derives the AES keys of TLS 1.3 connections from the key log of
// their client (RFC 8446, section 7.3; the log is the one of NSS). TLS keys
// are on the heap and not defended: SECURITY.md says so. To tell them from
// keys that must not be there, the test has to know them.
func TLSKeys(log io.Reader) ([][]byte, error) {
	var keys [][]byte
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || !strings.Contains(fields[0], "_TRAFFIC_SECRET") {
			continue
		}
		secret, err := hex.DecodeString(fields[2])
		if err != nil {
			return nil, fmt.Errorf("read key log: %w", err)
		}
		hash, length := sha256.New, 16 // TLS_AES_128_GCM_SHA256
		if len(secret) == sha512.Size384 {
			hash, length = sha512.New384, 32 // TLS_AES_256_GCM_SHA384
		}
		key, err := expandLabel(hash, secret, "key", length)
		if err != nil {
			return nil, fmt.Errorf("read key log: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, lines.Err()
}

// expandLabel is HKDF-Expand-Label with an empty context.
func expandLabel(h func() hash.Hash, secret []byte, label string, length int) ([]byte, error) {
	label = "tls13 " + label
	info := []byte{0, byte(length), byte(len(label))}
	info = append(append(info, label...), 0)
	return hkdf.Expand(h, secret, string(info), length)
}
