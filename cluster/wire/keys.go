package wire

import "encoding/binary"

const (
	// SealKeyBytes is the length of the public key that a hand-over is sealed
	// to: MLKEM768-X25519.
	SealKeyBytes = 1216
	// EncapsulationBytes is the length of what its other half is drawn from.
	EncapsulationBytes = 1120
	// MaxSealedKeys bounds a sealed keyring: 64 KiB and a tag.
	MaxSealedKeys = 64<<10 + 16
)

// KeysRequest asks for the keys of the cluster. Who asks, and in which life,
// is known by the connection.
//
//	offset  size  content
//	0       1     format, 1
//	1       8     boot number of the asker
//	9       8     the highest seal epoch it has heard of
//	17      1216  public key, made for this one hand-over
//	1233    2+…   address at which the asker can be dialled back
type KeysRequest struct {
	Boot, SealEpoch uint64
	Key             []byte // SealKeyBytes of them
	Address         string
}

// Append appends the message to dst.
func (m *KeysRequest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, format), m.Boot)
	dst = binary.BigEndian.AppendUint64(dst, m.SealEpoch)
	return appendString(append(dst, m.Key...), m.Address)
}

// Decode reads one message; Key aliases b.
func (m *KeysRequest) Decode(b []byte) error {
	r := open(b)
	m.Boot, m.SealEpoch = r.uint64(), r.uint64()
	m.Key = r.take(SealKeyBytes)
	m.Address = r.string()
	return r.end()
}

// KeysReply hands the keys over, sealed to the key of the request.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     verdict
//	2       2+…   text for the operator
//	if granted:
//	        8     version of the keyring
//	        32    its hash
//	        8     seal epoch
//	        1120  encapsulated key
//	        4+…   sealed keyring, at most MaxSealedKeys
type KeysReply struct {
	Verdict            Verdict
	Text               string
	Version, SealEpoch uint64
	Hash               [32]byte
	Encapsulated       []byte // EncapsulationBytes of them
	Sealed             []byte
}

// Append appends the message to dst.
func (m *KeysReply) Append(dst []byte) []byte {
	dst = appendString(append(dst, format, byte(m.Verdict)), m.Text)
	if m.Verdict != Granted {
		return dst
	}
	dst = append(binary.BigEndian.AppendUint64(dst, m.Version), m.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, m.SealEpoch)
	return appendBlob(append(dst, m.Encapsulated...), m.Sealed)
}

// Decode reads one message; its byte slices alias b.
func (m *KeysReply) Decode(b []byte) error {
	r := open(b)
	*m = KeysReply{Verdict: r.verdict(), Text: r.string()}
	if m.Verdict == Granted {
		m.Version = r.uint64()
		copy(m.Hash[:], r.take(len(m.Hash)))
		m.SealEpoch = r.uint64()
		m.Encapsulated = r.take(EncapsulationBytes)
		m.Sealed = r.blob(MaxSealedKeys)
	}
	return r.end()
}
