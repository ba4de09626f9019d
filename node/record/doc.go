// Package record turns values into sealed records and back, and pseudonyms
// into tokens. It is the one room that sees plaintext and key together: here a
// reviewer looks for plaintext.
//
// It owns the record format, the format of sealed command batches, the checks
// that a value must pass before it is sealed, and the masks. It never sees who
// asks, what a caller may do, or where a record is kept, and it keeps nothing:
// values live in the caller's guarded memory and, while one is being sealed,
// in a pad of guarded memory that is wiped before the call returns.
//
// Values are bytes throughout, never Go strings, because a string can neither
// be wiped nor be kept off the heap. No error, log line or panic of this room
// holds a value, a token or a key.
//
// Everything here is safe for concurrent use. Callers wrap a whole request in
// [cloakroom/securemem.Do]; nothing in this room allocates on the way of a
// read, so that the wrapping costs nothing.
package record
