package peer

import (
	"fmt"
	"sync/atomic"
)

// refusal is why a connection was not let in. The numbers travel.
type refusal uint8

const (
	admitted refusal = iota
	refusedMalformed
	refusedCluster
	refusedNode
	refusedLife
	refusedIdentity
	refusedMember
	refusedReplica
	refusedGroup
	refusedGeneration
	refusedSource
	refusedCrowd
	refusedKey
	refusedBoot
	// These never travel: there is nobody to tell.
	refusedTLS
	refusedSlow
	refusedGone
	refusals // how many there are
)

// words are what operators see, and the labels of the counters.
func (r refusal) words() string {
	return [refusals]string{
		admitted:          "admitted",
		refusedMalformed:  "malformed handshake",
		refusedCluster:    "another cluster",
		refusedNode:       "another node was wanted",
		refusedLife:       "another life of the node was wanted",
		refusedIdentity:   "not the node its certificate names",
		refusedMember:     "not a member, or not with this life",
		refusedReplica:    "no such replica here",
		refusedGroup:      "replica of another group",
		refusedGeneration: "another generation of the group",
		refusedSource:     "source replica not known there",
		refusedCrowd:      "too many connections",
		refusedKey:        "another TLS key than the registered one",
		refusedBoot:       "its folder was copied or rolled back",
		refusedTLS:        "TLS failed",
		refusedSlow:       "handshake too slow",
		refusedGone:       "gone during the handshake",
	}[r]
}

// known says whether r may come from a peer.
func (r refusal) known() bool { return r > admitted && r < refusedTLS }

// Error makes a refusal an error that wraps [ErrRefused].
func (r refusal) Error() string { return r.words() }
func (r refusal) Unwrap() error { return ErrRefused }

// refusedBy is a refusal that came from the other side.
type refusedBy struct{ refusal }

func (r refusedBy) Error() string { return fmt.Sprintf("refused by the peer: %s", r.words()) }
func (r refusedBy) Unwrap() error { return r.refusal }

type refusalCounts [refusals]atomic.Uint64

// byReason returns the counts that are not zero.
func (c *refusalCounts) byReason() map[string]uint64 {
	out := map[string]uint64{}
	for r := range c {
		if n := c[r].Load(); n > 0 {
			out[refusal(r).words()] = n
		}
	}
	return out
}
