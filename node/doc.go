// Package node is one Cloakroom node: it puts the rooms together and leads a
// request through them. Read pipeline.go first; every read and every write
// takes the gates there in the same order.
//
// The package holds plaintext only in guarded buffers that belong to the
// request being answered, and only between package record, which opens and
// seals values, and package api, which encodes the answer. Everything it gives
// to package cluster is sealed.
//
// A [Node] is safe for concurrent use.
package node
