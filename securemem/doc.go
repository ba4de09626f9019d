// Package securemem owns every byte of memory that must not be seen from
// outside the process: keys and cipher states, request and reply buffers, and
// the arena that holds the sealed records. All of it lies off the Go heap.
//
// It knows nothing about records, fields or keyrings; it hands out bytes and
// takes them back wiped.
//
//	keys    secretmem or memguard, under 1 MiB          Secret, AEAD, Block
//	pool    secretmem or memguard, up to 64 MiB         Pool, Buffer
//	arena   sealed records; locked if the limit allows  Arena, Slab
//	plain   ciphertext only, never locked               MapPlain
//
// Everything here is safe for concurrent use except [Slab] and [Buffer], whose
// docstrings say who may call what when.
package securemem
