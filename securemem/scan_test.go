//go:build linux

package securemem

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestNoKeyOnTheHeap loads keys and then looks for them and their schedules
// in all of the process's own readable memory.
func TestNoKeyOnTheHeap(t *testing.T) {
	if !haveSecretmem() {
		t.Skip("the kernel has no memfd_secret")
	}
	if !ErasureOn() {
		t.Skip("the promise needs GOEXPERIMENT=runtimesecret")
	}
	runChild(t, "keys on the heap", false)
}

// TestScanFindsPlantedKey shows that the scan can fail.
func TestScanFindsPlantedKey(t *testing.T) { runChild(t, "planted key", false) }

// maskedKey is the test's key, each byte inverted, so that neither the key nor
// a needle for it stands in the binary or on the heap of who searches.
func maskedKey() [KeyBytes]byte {
	var masked [KeyBytes]byte
	for i := range masked {
		masked[i] = byte(i*i*7 + 31*i + 99)
	}
	return masked
}

// loadKeys fills guarded memory with cipher states of the one key, which is
// unmasked into guarded memory only.
func loadKeys() (*Memory, error) {
	m, err := Open(Config{Backend: BackendSecretmem, Limit: 1 << 20})
	if err != nil {
		return nil, err
	}
	key, err := m.NewSecret(KeyBytes)
	if err != nil {
		return nil, err
	}
	var faults []error
	key.Use(func(b []byte) {
		for i, c := range maskedKey() {
			b[i] = ^c
		}
		for range 20 {
			aead, err := m.NewAEAD(b)
			faults = append(faults, err)
			block, err := m.NewBlock(b)
			faults = append(faults, err)
			if aead != nil && block != nil {
				aead.Seal(nil, make([]byte, NonceBytes), make([]byte, 40), nil)
				block.Encrypt(make([]byte, 16), make([]byte, 16))
			}
		}
	})
	runtime.GC()
	runtime.GC()
	return m, errors.Join(faults...)
}

func childKeysOnHeap() error {
	m, err := loadKeys()
	if err != nil {
		return err
	}
	found, scanned, err := scanSelf(maskedKey())
	if err != nil {
		return err
	}
	if found != 0 {
		return fmt.Errorf("the key stands in %d places of %d bytes", found, scanned)
	}
	if scanned < 1<<20 {
		return fmt.Errorf("only %d bytes were scanned", scanned)
	}
	return m.Close()
}

func childPlantedKey() error {
	planted := heapCipher()
	found, _, err := scanSelf(maskedKey())
	runtime.KeepAlive(planted)
	if err != nil {
		return err
	}
	if found == 0 {
		return errors.New("a key schedule on the heap was not found")
	}
	return nil
}

// heapCipher is what NewAEAD avoids: an ordinary state on the Go heap.
func heapCipher() cipher.AEAD {
	key := make([]byte, KeyBytes)
	for i, c := range maskedKey() {
		key[i] = ^c
	}
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// scanSelf counts where the unmasked needle stands in the process's readable
// and writable memory. The first half of an AES-256 key is round key 0, so a
// schedule holds the key itself.
func scanSelf(masked [KeyBytes]byte) (found, scanned int, err error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, 0, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = mem.Close() }()
	window := make([]byte, 1<<20)
	defer clear(window)
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		var from, to uint64
		var flags string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &flags); err != nil {
			return 0, 0, err
		}
		if !strings.HasPrefix(flags, "rw") {
			continue
		}
		for at := from; at < to; at += uint64(len(window)) {
			n, _ := mem.ReadAt(window[:min(uint64(len(window)), to-at)], int64(at))
			found += countMasked(window[:n], masked)
			scanned += n
		}
	}
	return found, scanned, nil
}

// countMasked counts the unmasked first halves; states are aligned to words.
func countMasked(b []byte, masked [KeyBytes]byte) int {
	found := 0
	for at := 0; at+aes.BlockSize <= len(b); at += 4 {
		same := true
		for i := 0; same && i < aes.BlockSize; i++ {
			same = b[at+i] == ^masked[i]
		}
		if same {
			found++
		}
	}
	return found
}

// TestAESKeyFind takes a core dump the way root would and runs the forensic
// tool on it.
func TestAESKeyFind(t *testing.T) {
	for _, tool := range []string{"gcore", "aeskeyfind"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if !haveSecretmem() || !ErasureOn() {
		t.Skip("needs memfd_secret and GOEXPERIMENT=runtimesecret")
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	key := maskedKey()
	for i := range key {
		key[i] = ^key[i]
	}
	text := hex.EncodeToString(key[:])
	if got := keysInDump(t, "wait with heap keys"); !strings.Contains(got, text) {
		t.Errorf("the key of an ordinary cipher was not found: the test cannot fail: %q", got)
	}
	if got := keysInDump(t, "wait with keys"); got != "" {
		t.Errorf("keys found in a core dump: %q", got)
	}
}

// keysInDump dumps a child that waits and returns what aeskeyfind says.
func keysInDump(t *testing.T, child string) string {
	t.Helper()
	cmd := childCommand(t, child, false)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	prefix := filepath.Join(t.TempDir(), "core")
	pid := fmt.Sprint(cmd.Process.Pid)
	if out, err := exec.CommandContext(t.Context(), "gcore", "-o", prefix, pid).CombinedOutput(); err != nil {
		t.Skipf("gcore cannot attach here: %v: %s", err, out)
	}
	core := prefix + "." + pid
	dropZeroPages(t, core)
	out, err := exec.CommandContext(t.Context(), "aeskeyfind", "-q", core).Output()
	if err != nil {
		t.Fatalf("aeskeyfind: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// dropZeroPages makes a dump short: aeskeyfind takes half a minute for the
// runtime's untouched reservations.
func dropZeroPages(t *testing.T, path string) {
	t.Helper()
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, zeros := dump[:0], make([]byte, 4096)
	for page := range slices.Chunk(dump, len(zeros)) {
		if !bytes.Equal(page, zeros[:len(page)]) {
			kept = append(kept, page...)
		}
	}
	if err := os.WriteFile(path, kept, 0o600); err != nil {
		t.Fatal(err)
	}
}

func childWaitWithKeys() error {
	m, err := loadKeys()
	if err != nil {
		return err
	}
	waitForParent()
	return m.Close()
}

func childWaitWithHeapKeys() error {
	planted := heapCipher()
	waitForParent()
	runtime.KeepAlive(planted)
	return nil
}

// waitForParent says that the child is ready and waits for the end of stdin.
func waitForParent() {
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
