package cloakroom

// Limits that callers can rely on. What a node can be configured to do lies
// within them.
const (
	// Slots is the number of parts the token space is cut into.
	Slots = 4096
	// MaxShards is the largest number of data shards.
	MaxShards = 64
	// MaxResolveIDs is the most pseudonyms one resolve may name.
	MaxResolveIDs = 1000
	// MaxBatchSubjects is the most subjects one batch deposit may carry.
	MaxBatchSubjects = 10_000
	// MaxSubjectBytes bounds the sum of a subject's values, in bytes.
	MaxSubjectBytes = 64 << 10
	// MaxFields bounds the fields of a schema, retired ones included.
	MaxFields = 64
	// MaxNameBytes bounds the name of a field, purpose, domain or principal.
	MaxNameBytes = 64
	// MaxIssuerBytes bounds the name of an issuer, as in the iss of a token.
	MaxIssuerBytes = 255
	// MaxSourceBytes bounds the name that an issuer has for a subject.
	MaxSourceBytes = 1024
	// MaxIdempotencyKeyBytes bounds the Idempotency-Key header.
	MaxIdempotencyKeyBytes = 255
	// MaxEntryBytes bounds one batch of commands before it is sealed, except
	// that a single larger command travels alone.
	MaxEntryBytes = 256 << 10
)
