package dumptest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Found is what a core dump holds.
type Found struct {
	Memory      []Count // PT_LOAD segments, and notes that are not registers
	MemoryBytes int64
	Segments    int
	// Registers are those of stopped threads. Work in progress passes
	// through registers, so they are counted and shown, not judged.
	Registers     []Count
	RegisterBytes int64
	Threads       int
}

// Note types of a Linux core file that hold registers (elf.h).
const (
	ntPrstatus   = 1
	ntFPRegset   = 2
	ntX86XState  = 0x202
	ntPRXFPReg   = 0x46e62b7f
	ntARMVFP     = 0x400
	ntARMSVE     = 0x405
	ntARMSysCall = 0x404
)

// maxNote bounds one PT_NOTE segment, in bytes.
const maxNote = 64 << 20

// ScanCore searches the ELF core file at path.
func ScanCore(path string, p *Patterns) (Found, error) {
	file, err := os.Open(path)
	if err != nil {
		return Found{}, err
	}
	defer file.Close()
	return scanCore(file, p)
}

func scanCore(file io.ReaderAt, p *Patterns) (Found, error) {
	core, err := elf.NewFile(file)
	if err != nil {
		return Found{}, fmt.Errorf("read core: %w", err)
	}
	if core.Type != elf.ET_CORE {
		return Found{}, fmt.Errorf("read core: ELF type %v is no core dump", core.Type)
	}
	var found Found
	memory, registers := p.NewScan(), p.NewScan()
	for _, prog := range core.Progs {
		switch prog.Type {
		case elf.PT_LOAD:
			found.Segments++
			err = scanSegment(prog, memory)
		case elf.PT_NOTE:
			err = scanNotes(prog, core.ByteOrder, memory, registers, &found)
		}
		if err != nil {
			return Found{}, fmt.Errorf("read core: %w", err)
		}
	}
	found.Memory, found.MemoryBytes = memory.Counts(), memory.Bytes()
	found.Registers, found.RegisterBytes = registers.Counts(), registers.Bytes()
	if found.MemoryBytes == 0 {
		return Found{}, errors.New("read core: no memory in it")
	}
	return found, nil
}

// scanSegment insists on every byte: a dump cut short by a full disk must not
// pass for a clean one.
func scanSegment(prog *elf.Prog, memory *Scan) error {
	before := memory.Bytes()
	if err := memory.Range(prog.Vaddr, prog.Open()); err != nil {
		return err
	}
	if got := memory.Bytes() - before; got != int64(prog.Filesz) {
		return fmt.Errorf("segment at %#x: %d bytes of %d", prog.Vaddr, got, prog.Filesz)
	}
	return nil
}

// scanNotes walks a note segment:
//
//	name size u32 ‖ desc size u32 ‖ type u32 ‖ name, padded to 4 ‖ desc, padded to 4
func scanNotes(prog *elf.Prog, order binary.ByteOrder, memory, registers *Scan, found *Found) error {
	if prog.Filesz > maxNote {
		return fmt.Errorf("note segment of %d bytes", prog.Filesz)
	}
	notes := make([]byte, prog.Filesz)
	if _, err := io.ReadFull(prog.Open(), notes); err != nil {
		return err
	}
	for at := uint64(0); len(notes) >= 12; {
		nameSize, descSize, kind := order.Uint32(notes), order.Uint32(notes[4:]), order.Uint32(notes[8:])
		from := 12 + roundUp4(uint64(nameSize))
		to := from + uint64(descSize)
		next := from + roundUp4(uint64(descSize))
		if to > uint64(len(notes)) {
			return errors.New("note runs past its segment")
		}
		scan := memory
		if isRegisters(kind) {
			scan = registers
			if kind == ntPrstatus {
				found.Threads++
			}
		}
		if err := scan.Range(at+from, bytes.NewReader(notes[from:to])); err != nil {
			return err
		}
		next = min(next, uint64(len(notes)))
		notes, at = notes[next:], at+next
	}
	return nil
}

func isRegisters(kind uint32) bool {
	switch kind {
	case ntPrstatus, ntFPRegset, ntX86XState, ntPRXFPReg, ntARMVFP, ntARMSVE, ntARMSysCall:
		return true
	}
	return false
}

func roundUp4(n uint64) uint64 { return (n + 3) &^ 3 }

// Around returns a hex dump of the memory around an address of a core file,
// for whoever has to find out how something came to be there.
func Around(path string, addr uint64, n int) (string, error) {
	core, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("read core: %w", err)
	}
	defer core.Close()
	for _, prog := range core.Progs {
		if prog.Type != elf.PT_LOAD || addr < prog.Vaddr || addr >= prog.Vaddr+prog.Filesz {
			continue
		}
		from := max(int64(addr-prog.Vaddr)&^15-int64(n), 0)
		b := make([]byte, min(2*int64(n), int64(prog.Filesz)-from))
		if _, err := prog.ReadAt(b, from); err != nil {
			return "", fmt.Errorf("read core: %w", err)
		}
		return fmt.Sprintf("%#x in a segment of %d bytes from %#x, %v:\n%s", addr, prog.Filesz, prog.Vaddr, prog.Flags, hex.Dump(b)), nil
	}
	return "", fmt.Errorf("read core: no memory at %#x", addr)
}
