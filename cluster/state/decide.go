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

// decide says what a command makes of a subject. It depends on its arguments
// and on the shard time (now) alone.
func decide(c *command.Command, before command.SubjectRecord, there bool, now uint32) decision {
	switch c.Kind {
	case command.Erase:
		return decideErase(c, before, there, now)
	case command.Expire:
		return decideExpire(c, before, there, now)
	}
	// Retries come before every condition: the first try made it untrue.
	switch {
	case there && before.Erased:
		return refuse(command.Erased)
	case there && sameKey(c, &before):
		if c.Version == before.Version {
			return refuse(command.Replayed)
		}
		return refuse(command.TagConflict)
	}
	if c.Kind == command.Merge {
		return decideMerge(c, before, there, now)
	}
	return decidePut(c, before, there, now)
}

// decidePut: a subject whose expiry has passed but that was not wiped yet is
// not there for a put, except that a create-only put, which lists only some
// fields, would leave old ones behind and is refused. A put never moves a
// subject to another domain: who may write to one could take it from another.
func decidePut(c *command.Command, before command.SubjectRecord, there bool, now uint32) decision {
	if c.Flags&command.ReplaceOnly != 0 && !there {
		return refuse(command.NotFound)
	}
	visible := there && !expired(&before, now)
	if c.Flags&command.HasExpected != 0 && !(visible && c.Expected == before.Version) {
		return refuse(command.VersionMismatch)
	}
	if c.Flags&command.CreateOnly != 0 && there {
		return refuse(command.Exists)
	}
	if visible && c.Domain != before.Domain {
		return refuse(command.Exists)
	}
	after := command.SubjectRecord{Version: c.Version, Domain: c.Domain, KeyTag: c.KeyTag, Expiry: c.Expiry}
	if visible {
		return leave(command.Replaced, after)
	}
	return leave(command.Created, after)
}

// decideMerge: domain and expiry stay, unless the command brings an expiry.
func decideMerge(c *command.Command, before command.SubjectRecord, there bool, now uint32) decision {
	if !there || expired(&before, now) {
		return refuse(command.NotFound)
	}
	if c.Flags&command.HasExpected != 0 && c.Expected != before.Version {
		return refuse(command.VersionMismatch)
	}
	after := command.SubjectRecord{Version: c.Version, Domain: before.Domain, KeyTag: c.KeyTag, Expiry: before.Expiry}
	if c.Expiry != 0 {
		after.Expiry = c.Expiry
	}
	return leave(command.Merged, after)
}

// decideErase: a subject that is there was not erased under this key, so an
// equal tag means that the key was used for something else.
func decideErase(c *command.Command, before command.SubjectRecord, there bool, now uint32) decision {
	switch {
	case !there:
		return refuse(command.NotFound)
	case before.Erased:
		return refuse(command.AlreadyErased)
	case sameKey(c, &before):
		return refuse(command.TagConflict)
	case c.Flags&command.HasExpected != 0 && c.Expected != before.Version:
		return refuse(command.VersionMismatch)
	}
	return leave(command.Erased, command.SubjectRecord{
		Version: c.Version, Domain: before.Domain, KeyTag: c.KeyTag, Expiry: now, Erased: true,
	})
}

// decideExpire wipes a subject only if it still has the expiry that the
// sweeper saw and that expiry has passed: a write in between wins.
func decideExpire(c *command.Command, before command.SubjectRecord, there bool, now uint32) decision {
	switch {
	case !there || before.Erased:
		return refuse(command.NotFound)
	case c.Expiry != before.Expiry || !expired(&before, now):
		return refuse(command.VersionMismatch)
	}
	return decision{code: command.Done}
}

// sameKey reports whether the subject's last request carried the command's
// idempotency key.
func sameKey(c *command.Command, before *command.SubjectRecord) bool {
	return c.KeyTag != (command.KeyTag{}) && c.KeyTag == before.KeyTag
}

// expired reports whether a living subject's expiry has passed.
func expired(s *command.SubjectRecord, now uint32) bool {
	return s.Expiry != 0 && s.Expiry <= now
}
