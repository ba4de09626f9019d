// Package snapshot owns the form in which the state of one replica leaves its
// memory: a header anyone can read, the state as an age stream
// (age-encryption.org/v1) to the post-quantum snapshot identity of its key
// epoch, and a signature of the cluster over both. It is drawn in format.go.
//
// It writes and reads streams, in both directions with two chunks of 64 KiB
// in memory, and opens no file and no connection. It never sees a keyring:
// recipient, identity, signer and verifier come in through [Seal] and [Open].
// Nor does it see a value: the records of a state are sealed before they get
// here.
//
// A Writer and a Reader serve one goroutine each; the functions are safe for
// concurrent use.
package snapshot
