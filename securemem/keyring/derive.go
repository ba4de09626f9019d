package keyring

import (
	"crypto/hkdf"
	"crypto/sha256"

	"cloakroom/securemem"
)

// infoPrefix begins the info of every derivation, as it begins the context of
// every signature: it keeps our keys apart from anything else that might use
// HKDF on the same parent one day.
const infoPrefix = "cloakroom/v1/"

// derive hands use the key
//
//	HKDF-SHA-256(parent, salt = cluster id, info = "cloakroom/v1/" ‖ purpose ‖ 0x00 ‖ context)
//
// of 32 bytes (RFC 5869), which is wiped afterwards. context has one length
// per purpose. The intermediate keys that crypto/hkdf leaves on the heap were
// allocated inside securemem.Do; the caller ends with collect.
func (k *Keyring) derive(parent *securemem.Secret, purpose string, context []byte, use func(key []byte) error) error {
	info := infoPrefix + purpose + "\x00" + string(context)
	var err error
	parent.Use(func(secret []byte) {
		var key []byte
		key, err = hkdf.Key(sha256.New, secret, k.cfg.Cluster[:], info, keyBytes)
		if err != nil {
			return
		}
		defer clear(key)
		err = use(key)
	})
	return err
}
