package dumptest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

type note struct {
	name string
	kind uint32
	desc []byte
}

type segment struct {
	addr uint64
	data []byte
}

// makeCore writes a core file of the notes and segments by hand.
func makeCore(t *testing.T, notes []note, segments []segment) []byte {
	t.Helper()
	var body bytes.Buffer
	for _, n := range notes {
		name := append([]byte(n.name), 0)
		for _, word := range []uint32{uint32(len(name)), uint32(len(n.desc)), n.kind} {
			binary.Write(&body, binary.LittleEndian, word)
		}
		body.Write(pad4(name))
		body.Write(pad4(n.desc))
	}
	const headerSize, progSize = 64, 56
	base := uint64(headerSize + progSize*(1+len(segments)))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: base, Filesz: uint64(body.Len())}}
	for _, s := range segments {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: base + uint64(body.Len()), Vaddr: s.addr,
			Filesz: uint64(len(s.data)), Memsz: uint64(len(s.data))})
		body.Write(s.data)
	}
	var file bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: headerSize, Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(len(progs))}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&file, binary.LittleEndian, header)
	binary.Write(&file, binary.LittleEndian, progs)
	file.Write(body.Bytes())
	return file.Bytes()
}

func pad4(b []byte) []byte {
	return append(slices.Clone(b), make([]byte, roundUp4(uint64(len(b)))-uint64(len(b)))...)
}

func TestCoreTellsMemoryAndRegistersApart(t *testing.T) {
	const secret = "kV93hTzQpL07xWbA"
	var p Patterns
	p.Add(p.Class("keys", 8), []byte(secret))
	core := makeCore(t, []note{
		{"CORE", ntPrstatus, []byte("thread one " + secret)},
		{"LINUX", ntX86XState, []byte("....." + secret + "." + secret)},
		{"CORE", ntPrstatus, []byte("thread two")},
		{"CORE", 3, []byte("prpsinfo: arguments " + secret)},
	}, []segment{
		{0x400000, []byte("nothing in here")},
		{0x500000, []byte(strings.Repeat(".", 100) + secret)},
		{0x600000, nil},
	})
	found, err := scanCore(bytes.NewReader(core), &p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(found.Memory), 1; got != want {
		t.Fatalf("memory: got %v, want one class", found.Memory)
	}
	if got := found.Memory[0].Runs; got != 2 {
		t.Errorf("memory: got %d runs, want one in a segment and one in prpsinfo", got)
	}
	if len(found.Registers) != 1 || found.Registers[0].Runs != 3 {
		t.Errorf("registers: got %v, want 3 runs", found.Registers)
	}
	if found.Segments != 3 || found.Threads != 2 {
		t.Errorf("got %d segments and %d threads, want 3 and 2", found.Segments, found.Threads)
	}
	if found.MemoryBytes < 131 || found.RegisterBytes < 70 {
		t.Errorf("got %d bytes of memory and %d of registers", found.MemoryBytes, found.RegisterBytes)
	}
}

func TestCoreRefusesWhatIsNoCore(t *testing.T) {
	good := makeCore(t, []note{{"CORE", ntPrstatus, []byte("registers")}}, []segment{{0x1000, []byte("memory")}})
	longNote := slices.Clone(good)
	binary.LittleEndian.PutUint32(longNote[64+2*56+4:], 1<<30)
	executable := slices.Clone(good)
	executable[16] = byte(elf.ET_EXEC)
	for name, file := range map[string][]byte{
		"empty":      nil,
		"text":       []byte("no ELF at all"),
		"executable": executable,
		"truncated":  good[:len(good)-3],
		"long note":  longNote,
		"no memory":  makeCore(t, nil, nil),
	} {
		if found, err := scanCore(bytes.NewReader(file), &Patterns{}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, found)
		}
	}
	if _, err := scanCore(bytes.NewReader(good), &Patterns{}); err != nil {
		t.Errorf("the file the others are made from: %v", err)
	}
}
