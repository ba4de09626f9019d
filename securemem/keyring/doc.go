// Package keyring owns the keys of a cluster: it makes them, derives others
// from them, hands out the ciphers built from them, and writes them into one
// blob, format 1, whose versions are chained by hash.
//
// It never sees a value, a pseudonym or a record. Raw keys lie in guarded
// memory only ([cloakroom/securemem.Secret]); what leaves the room is ciphers
// whose state lies there too, MACs, signatures and public keys. The one
// exception is [Keyring.Encode], whose blob comes in a Secret.
//
// A Keyring is safe for concurrent use and prints as "[secret]".
package keyring
