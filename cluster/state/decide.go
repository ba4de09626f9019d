package state

import "cloakroom/cluster/command"

// decision is what becomes of a subject: the answer, and unless it is a
// refusal the subject record after the command, if one stays.
type decision struct {
	code    command.Code
	refused bool
	stays   bool
	after   command.SubjectRecord
}

// refuse answers with the subject as it is and changes nothing.
func refuse(code command.Code) decision { return decision{code: code, refused: true} }

// leave does what the command asks; the record after is what stays.
func leave(code command.Code, after command.SubjectRecord) decision {
	return decision{code: code, stays: true, after: after}
}

// before is what a command meets: the subject record, if one is there, and
// whether a token that it would link is taken.
type before struct {
	subject command.SubjectRecord
	there   bool
	taken   bool
}

// visible reports whether the subject is there and not expired.
func (b *before) visible(now uint32) bool { return b.there && !expired(&b.subject, now) }

// decide says what a command makes of a subject. It depends on its arguments
// and on the shard time (now) alone.
func decide(c *command.Command, b *before, now uint32) decision {
	if b.there && b.subject.Alias { // all there is to know of it is of whom it is
		return refuse(command.Aliased)
	}
	switch c.Kind {
	case command.Erase:
		return decideErase(c, b, now)
	case command.Expire:
		return decideExpire(c, b, now)
	}
	// Retries come before every condition: the first try made it untrue.
	switch {
	case b.there && b.subject.Erased:
		return refuse(command.Erased)
	case b.there && sameKey(c, &b.subject):
		if c.Version == b.subject.Version {
			return refuse(command.Replayed)
		}
		return refuse(command.TagConflict)
	}
	switch c.Kind {
	case command.Merge:
		return decideMerge(c, b, now)
	case command.Bind:
		return decideBind(c, b, now)
	}
	return decidePut(c, b, now)
}

// decidePut: a subject whose expiry has passed but that was not wiped yet is
// not there for a put, except that a create-only put, which lists only some
// fields, would leave old ones behind and is refused. A put never moves a
// subject to another domain: who may write to one could take it from another.
// One with links stays in its domain for good, since what a handle seals names it.
// Links stay in every case, or what stands under their tokens would be nobody's.
func decidePut(c *command.Command, b *before, now uint32) decision {
	if c.Flags&command.ReplaceOnly != 0 && !b.there {
		return refuse(command.NotFound)
	}
	visible := b.visible(now)
	if c.Flags&command.HasExpected != 0 && !(visible && c.Expected == b.subject.Version) {
		return refuse(command.VersionMismatch)
	}
	if c.Flags&command.CreateOnly != 0 && b.there {
		return refuse(command.Exists)
	}
	if (visible || b.subject.Links.Len() > 0) && c.Domain != b.subject.Domain {
		return refuse(command.Exists)
	}
	after := command.SubjectRecord{
		Version: c.Version, Domain: c.Domain, KeyTag: c.KeyTag, Expiry: c.Expiry, Links: b.subject.Links,
	}
	if !visible {
		return leave(command.Created, after)
	}
	if c.Flags&command.LaterExpiry != 0 {
		after.Expiry = later(c.Expiry, b.subject.Expiry)
	}
	return leave(command.Replaced, after)
}

// later returns the later one of two expiries; 0 is never.
func later(a, b uint32) uint32 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// decideBind is a put that also wants the tokens of its links. What the put is
// refused for comes first; the new links are in the command, not yet in the
// record after.
func decideBind(c *command.Command, b *before, now uint32) decision {
	d := decidePut(c, b, now)
	switch {
	case d.refused:
		return d
	case b.taken:
		return refuse(command.Bound)
	case b.subject.Links.Len()+len(c.Links) > command.MaxLinks:
		return refuse(command.TooManyLinks)
	}
	return d
}

// decideMerge: domain, links and expiry stay, unless the command brings an
// expiry.
func decideMerge(c *command.Command, b *before, now uint32) decision {
	if !b.visible(now) {
		return refuse(command.NotFound)
	}
	if c.Flags&command.HasExpected != 0 && c.Expected != b.subject.Version {
		return refuse(command.VersionMismatch)
	}
	after := command.SubjectRecord{
		Version: c.Version, Domain: b.subject.Domain, KeyTag: c.KeyTag, Expiry: b.subject.Expiry, Links: b.subject.Links,
	}
	if c.Expiry != 0 {
		after.Expiry = c.Expiry
	}
	return leave(command.Merged, after)
}

// decideErase: a subject that is there was not erased under this key, so an
// equal tag means that the key was used for something else.
func decideErase(c *command.Command, b *before, now uint32) decision {
	switch {
	case !b.there:
		return refuse(command.NotFound)
	case b.subject.Erased:
		return refuse(command.AlreadyErased)
	case sameKey(c, &b.subject):
		return refuse(command.TagConflict)
	case c.Flags&command.HasExpected != 0 && c.Expected != b.subject.Version:
		return refuse(command.VersionMismatch)
	}
	return leave(command.Erased, command.SubjectRecord{
		Version: c.Version, Domain: b.subject.Domain, KeyTag: c.KeyTag, Expiry: now, Erased: true,
	})
}

// decideExpire wipes a subject only if it still has the expiry that the
// sweeper saw and that expiry has passed: a write in between wins. So it does
// over the wiping of single fields, whose expiry only the sweeper can read: the
// version tells whether they are still the ones it saw.
func decideExpire(c *command.Command, b *before, now uint32) decision {
	switch fields := c.Flags&command.HasExpected != 0; {
	case !b.there || b.subject.Erased:
		return refuse(command.NotFound)
	case fields && c.Expected != b.subject.Version:
		return refuse(command.VersionMismatch)
	case fields:
		return leave(command.Done, b.subject)
	case c.Expiry != b.subject.Expiry || !expired(&b.subject, now):
		return refuse(command.VersionMismatch)
	}
	return decision{code: command.Done}
}

// sameKey reports whether the subject's last request carried the command's
// idempotency key.
func sameKey(c *command.Command, s *command.SubjectRecord) bool {
	return c.KeyTag != (command.KeyTag{}) && c.KeyTag == s.KeyTag
}

// expired reports whether a living subject's expiry has passed.
func expired(s *command.SubjectRecord, now uint32) bool {
	return s.Expiry != 0 && s.Expiry <= now
}
