// Package state is the shard machine: the map from tokens to sealed records
// that every replica of a shard builds from the shard's log.
//
// It owns the meaning of each command, the index, the shard's clock and the
// stream a snapshot is made of. It never sees a value, a key or a pseudonym,
// and has no clock, no randomness, no goroutine and no I/O: the same log makes
// the same map everywhere. DESIGN.md draws its memory and says why.
//
// A [Machine] is safe for concurrent use. Apply, Snapshot and Restore wait for
// one another; reads run beside them and wait microseconds.
package state
