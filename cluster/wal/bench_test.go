package wal

import (
	"path/filepath"
	"testing"

	"cloakroom/cluster/disk"

	"github.com/hashicorp/raft"
)

func onDisk(b *testing.B) Config {
	return Config{FS: disk.OS(), Dir: filepath.Join(b.TempDir(), "replica"), Identity: self, Boot: 1}
}

// One entry of 400 bytes, durable.
func BenchmarkStoreLogs(b *testing.B) {
	s, err := Create(onDisk(b))
	must(b, err)
	defer s.Close()
	data := make([]byte, 400)
	index := uint64(0)
	for b.Loop() {
		index++
		must(b, s.StoreLogs([]*raft.Log{{Index: index, Term: 1, Data: data}}))
	}
}

// A term and a vote, as in an election.
func BenchmarkVote(b *testing.B) {
	s, err := Create(onDisk(b))
	must(b, err)
	defer s.Close()
	term := uint64(0)
	for b.Loop() {
		term++
		must(b, s.SetUint64([]byte(keyTerm), term))
		must(b, s.SetUint64([]byte(keyVoteTerm), term))
		must(b, s.Set([]byte(keyCandidate), []byte("addr-2")))
	}
}

// A log of 10,000 entries of 400 bytes, read and checked.
func BenchmarkOpen(b *testing.B) {
	cfg := onDisk(b)
	s, err := Create(cfg)
	must(b, err)
	data := make([]byte, 400)
	for from := uint64(1); from <= 10_000; from += 100 {
		var logs []*raft.Log
		for index := from; index < from+100; index++ {
			logs = append(logs, &raft.Log{Index: index, Term: 1, Data: data})
		}
		must(b, s.StoreLogs(logs))
	}
	must(b, s.Close())
	for b.Loop() {
		s, err := Open(cfg)
		must(b, err)
		must(b, s.Close())
	}
}
