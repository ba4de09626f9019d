package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/securemem"
)

// idempotency is what an Idempotency-Key makes of a write: the same key by the
// same principal gives the same tag, and the same body under it the same
// versions, so that a shard can tell a retry from a reused key by comparing
// two numbers in the subject record (cluster/command).
type idempotency struct {
	given bool
	tag   command.KeyTag
	ids   [32]byte // PRF(principal, key); keys the ids of the items
	body  [32]byte // PRF(principal, key, action, id, body); keys their versions
}

// The contexts of the request key; each names one use.
const (
	contextTag      = "idempotency/tag"
	contextIDs      = "idempotency/ids"
	contextVersions = "idempotency/versions"
)

// idempotency derives what the request's key stands for.
func (n *Node) idempotency(req *api.Request, c *caller, action policy.Action, id cloakroom.Pseudonym) idempotency {
	if len(req.IdempotencyKey) == 0 {
		return idempotency{}
	}
	k := idempotency{given: true}
	name := []byte(c.name)
	var tag, body [32]byte
	n.keys.RequestMAC(&tag, contextTag, name, req.IdempotencyKey)
	k.tag = command.KeyTag(tag[:])
	k.tag[0] |= 1 // zero means: no key
	n.keys.RequestMAC(&k.ids, contextIDs, name, req.IdempotencyKey)
	securemem.Do(func() { body = sha256.Sum256(req.Body) }) // the hash's last block holds a piece of the body
	n.keys.RequestMAC(&k.body, contextVersions, name, req.IdempotencyKey, []byte(action.String()), id[:], body[:])
	return k
}

// identify gives every item its pseudonym, version and shard.
func (n *Node) identify(w *write) error {
	var fixed cloakroom.Pseudonym
	if !w.batch && w.items[0].HasID {
		fixed = w.items[0].ID
	}
	if w.person != nil {
		fixed = cloakroom.Pseudonym(w.person.handle) // for the version: one body is two writes to two people
	}
	w.key = n.idempotency(w.req, w.caller, w.action, fixed)
	const perItem = 16 + 8
	random := make([]byte, perItem*len(w.items))
	if _, err := io.ReadFull(n.random, random); err != nil {
		return err
	}
	ids := make([]cloakroom.Pseudonym, len(w.items))
	derived := w.key.deriver()
	for i := range w.items {
		d := &w.drafts[i]
		d.id = cloakroom.Pseudonym(random[i*perItem:])
		d.command.Version = cloakroom.Version(random[i*perItem+16:])
		d.command.KeyTag = w.key.tag
		if w.key.given {
			derived.replace(i, d)
		}
		d.id.SetRandomForm()
		if w.items[i].HasID {
			d.id = w.items[i].ID
		}
		d.answer = d.id
		if main, alias := w.mains[i]; alias {
			d.id = main.id
		}
		if w.person != nil {
			d.id, d.answer = w.person.main, w.person.answer()
		}
		ids[i] = d.id
	}
	slots := make([]cloakroom.Slot, len(ids))
	n.records.Slots(ids, slots)
	for i := range w.drafts {
		w.drafts[i].shard = w.rules.view.ShardOf(slots[i])
	}
	return nil
}

// deriver makes the ids and versions of the items of one idempotent request:
// HMAC-SHA-256 of the position, so that a retry finds the same again.
type deriver struct{ ids, versions hash.Hash }

func (k *idempotency) deriver() deriver {
	if !k.given {
		return deriver{}
	}
	return deriver{hmac.New(sha256.New, k.ids[:]), hmac.New(sha256.New, k.body[:])}
}

// replace puts the derived id and version of item i in place of random ones.
func (v *deriver) replace(i int, d *draft) {
	var position [4]byte
	binary.BigEndian.PutUint32(position[:], uint32(i))
	var sum [32]byte
	d.id = cloakroom.Pseudonym(macOf(v.ids, position[:], sum[:0]))
	d.command.Version = cloakroom.Version(macOf(v.versions, position[:], sum[:0]))
}

func macOf(h hash.Hash, message, dst []byte) []byte {
	h.Reset()
	h.Write(message)
	return h.Sum(dst)
}
