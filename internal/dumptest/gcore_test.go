package dumptest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"cloakroom/internal/people"
)

// holdCommand makes the test binary play the process that is dumped.
const holdCommand = "hold-for-dump"

const (
	heldSeed   = 0x5eed
	heldPeople = 500
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == holdCommand {
		hold()
		return
	}
	os.Exit(m.Run())
}

// hold keeps people and a key in memory in known numbers until stdin ends: on
// the heap, in a region that asks to be left out of dumps, in UTF-16, and as an
// AES schedule. The key comes in through stdin.
func hold() {
	crowd, err := people.New(people.Config{Seed: heldSeed, Marked: true})
	if err != nil {
		panic(err)
	}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadString('\n')
	if err != nil {
		panic(err)
	}
	var key [32]byte
	if _, err := hex.Decode(key[:], []byte(strings.TrimSpace(line))); err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	heap := make([]byte, 0, 64*heldPeople)
	for i := range uint64(heldPeople) {
		heap = append(crowd.AppendName(heap, i), '\n')
	}
	shy, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	if err := unix.Madvise(shy, unix.MADV_DONTDUMP); err != nil {
		panic(err)
	}
	copy(shy, crowd.AppendName(nil, heldPeople))
	wide := utf16.Encode([]rune(string(crowd.Infix(0))))
	fmt.Println("ready")
	in.ReadString('\n') // until the test is done with us
	fmt.Fprintln(os.Stderr, len(heap), len(shy), len(wide), gcm.NonceSize())
}

// requireDump skips the test where no process can be dumped.
func requireDump(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcore"); err != nil {
		t.Skip("no gcore (package gdb) on this machine")
	}
}

// startHolder starts the process that holds key, and waits until it does.
func startHolder(t *testing.T, key []byte) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], holdCommand)
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
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	fmt.Fprintf(stdin, "%x\n", key)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("holder said %q: %v", line, err)
	}
	return cmd.Process.Pid
}

// dumpOrSkip dumps a process; the file is removed with the test.
func dumpOrSkip(t *testing.T, pid int, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	core, err := Dump(ctx, pid, t.TempDir(), name)
	if errors.Is(err, ErrNoRights) {
		t.Skip("no right to dump processes:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// TestDumpFindsWhatAProcessHolds is the proof that the search can find: the
// same tools, over a process that is careless in known ways.
func TestDumpFindsWhatAProcessHolds(t *testing.T) {
	requireDump(t)
	key := noise(t, 32)
	core := dumpOrSkip(t, startHolder(t, key), "holder")

	crowd, err := people.New(people.Config{Seed: heldSeed, Marked: true})
	if err != nil {
		t.Fatal(err)
	}
	var p Patterns
	names := p.Class("names", Window)
	for i := range uint64(heldPeople + 1) {
		p.Add(names, crowd.Infix(i))
	}
	AddForms(&p, "names", crowd.Marker())
	AddKeys(&p, []Key{{"held key", key}})
	found, err := ScanCore(core, &p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB in %d segments, %d threads: %+v", found.MemoryBytes>>20, found.Segments, found.Threads, found.Memory)
	runs := map[string]int{}
	for _, c := range found.Memory {
		runs[c.Class] = c.Runs
	}
	// One more than on the heap: the region that asked to be left out.
	if got, want := runs["names"], heldPeople+1; got < want {
		t.Errorf("got %d names, want at least %d", got, want)
	}
	for _, class := range []string{"names, UTF-16", "raw key", "key in hex", "AES round key", "GHASH key"} {
		if runs[class] == 0 && class != "GHASH key" { // kept doubled and in tables
			t.Errorf("found no %s", class)
		}
	}
	if found.Threads < 2 || found.RegisterBytes == 0 {
		t.Errorf("got %d threads and %d bytes of registers", found.Threads, found.RegisterBytes)
	}
	schedules, err := FindSchedules(core)
	if err != nil || !slices.ContainsFunc(schedules, func(k []byte) bool { return bytes.Equal(k, key) }) {
		t.Errorf("got %d key schedules, %v, the held one is not among them", len(schedules), err)
	}
	checkAESKeyFind(t, core, key)
}

func checkAESKeyFind(t *testing.T, core string, key []byte) {
	t.Helper()
	if _, err := exec.LookPath("aeskeyfind"); err != nil {
		t.Log("no aeskeyfind on this machine")
		return
	}
	memory := filepath.Join(t.TempDir(), "memory")
	if err := Condense(core, memory); err != nil {
		t.Fatal(err)
	}
	keys, err := FindAESKeys(t.Context(), memory)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
		t.Errorf("aeskeyfind got %d keys, the held one is not among them", len(keys))
	}
}

func TestDumpOfNoProcess(t *testing.T) {
	requireDump(t)
	if core, err := Dump(t.Context(), 1<<22+1, t.TempDir(), "nobody"); err == nil {
		t.Errorf("dumped a process that does not exist to %s", core)
	}
}
