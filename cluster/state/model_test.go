package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"cloakroom"
	"cloakroom/cluster/command"
)

// model is the shard machine as plain maps, without an index, slots or stages:
// what the machine must be equal to.
type model struct {
	subjects map[cloakroom.Token]command.SubjectRecord // without links
	fields   map[cloakroom.Token]string
	links    map[cloakroom.Token]modelLink
	time     uint64
	schema   uint32
	applied  uint64
	hash     [32]byte
	changes  []Change // of the last entry
}

// modelLink is what stands under a link's token, and whose it is.
type modelLink struct {
	owner cloakroom.Token
	command.Link
}

func newModel() *model {
	return &model{
		subjects: map[cloakroom.Token]command.SubjectRecord{},
		fields:   map[cloakroom.Token]string{},
		links:    map[cloakroom.Token]modelLink{},
	}
}

func (m *model) seconds() uint32 { return uint32(min(m.time/1000, 1<<32-1)) }

// apply carries one entry out and returns the answers.
func (m *model) apply(index uint64, batch []byte, commands []command.Command) (results []command.Result) {
	m.changes = nil
	for i := range commands {
		results = append(results, m.command(&commands[i]))
	}
	m.applied = index
	prefix := binary.BigEndian.AppendUint64(slices.Clone(m.hash[:]), index)
	m.hash = sha256.Sum256(append(prefix, batch...))
	return results
}

func (m *model) command(c *command.Command) command.Result {
	switch c.Kind {
	case command.Time:
		if c.Value > m.time {
			m.time = c.Value
		}
		return command.Result{Code: command.Done}
	case command.Level:
		m.schema = max(m.schema, c.SchemaEpoch)
		return command.Result{Code: command.Done}
	case command.Touch, command.Reseal, command.Slice:
		return command.Result{Code: command.Unsupported}
	}
	if c.SchemaEpoch < m.schema {
		return command.Result{Code: command.StaleSchema}
	}
	m.schema = c.SchemaEpoch
	if m.clashes(c) {
		return command.Result{Code: command.Malformed}
	}
	if link, ok := m.links[c.Subject]; ok {
		return command.Result{Code: command.Aliased, Domain: link.Domain}
	}
	before, there := m.subjects[c.Subject]
	code := m.write(c, before, there)
	after := m.subjects[c.Subject]
	return command.Result{Code: code, Version: after.Version, Expiry: after.Expiry, Domain: after.Domain}
}

// clashes: a token is a subject's, a field's, an alias' or a handle's, never
// two of them.
func (m *model) clashes(c *command.Command) bool {
	_, clash := m.fields[c.Subject]
	clash = clash || m.links[c.Subject].Kind == command.Handle
	for _, f := range c.Fields {
		_, isSubject := m.subjects[f.Token]
		_, isLink := m.links[f.Token]
		clash = clash || isSubject || isLink
	}
	return clash
}

// taken: something stands under the token of a link.
func (m *model) taken(c *command.Command) bool {
	for _, l := range c.Links {
		_, isSubject := m.subjects[l.Token]
		_, isField := m.fields[l.Token]
		_, isLink := m.links[l.Token]
		if isSubject || isField || isLink {
			return true
		}
	}
	return false
}

// linksOf returns the tokens of a subject's links in order.
func (m *model) linksOf(subject cloakroom.Token) (tokens []cloakroom.Token) {
	for token, link := range m.links {
		if link.owner == subject {
			tokens = append(tokens, token)
		}
	}
	slices.SortFunc(tokens, compareTokens)
	return tokens
}

// write changes the model, and returns the code, for the kinds that write.
func (m *model) write(c *command.Command, s command.SubjectRecord, there bool) command.Code {
	gone := there && !s.Erased && s.Expiry != 0 && s.Expiry <= m.seconds()
	puts := c.Kind == command.Put || c.Kind == command.Bind
	if code := m.refuse(c, s, there, gone); code != 0 {
		return code
	}
	if c.Kind == command.Expire && c.Flags&command.HasExpected != 0 {
		m.note(c, s.Domain, Changed)
		m.setFields(c, false)
		return command.Done
	}
	if c.Kind == command.Expire {
		m.note(c, s.Domain, Expired)
		delete(m.subjects, c.Subject)
		m.setFields(c, false)
		m.unlink(c, nil)
		return command.Done
	}
	next := command.SubjectRecord{Version: c.Version, Domain: c.Domain, KeyTag: c.KeyTag, Expiry: c.Expiry}
	code := command.Created
	switch {
	case c.Kind == command.Erase:
		next.Domain, next.Expiry, next.Erased = s.Domain, m.seconds(), true
		code = command.Erased
		m.note(c, s.Domain, Erased)
	case c.Kind == command.Merge:
		next.Domain, next.Expiry = s.Domain, cmp.Or(c.Expiry, s.Expiry)
		code = command.Merged
	case there && !gone:
		code = command.Replaced
		if c.Flags&command.LaterExpiry != 0 && c.Expiry != 0 && (s.Expiry == 0 || s.Expiry > c.Expiry) {
			next.Expiry = s.Expiry
		}
	}
	if puts && gone && s.Domain != c.Domain {
		m.changes = append(m.changes, Change{c.Subject, s.Domain, Expired})
	}
	m.subjects[c.Subject] = next
	m.setFields(c, c.Kind != command.Erase)
	if next.Erased {
		m.unlink(c, &next)
		return code
	}
	kind := Changed
	if !there {
		kind = Created
	}
	m.note(c, next.Domain, kind)
	for _, l := range c.Links {
		m.links[l.Token] = modelLink{c.Subject, l}
		if l.Kind == command.Alias {
			m.changes = append(m.changes, Change{l.Token, l.Domain, Created})
		}
	}
	return code
}

// refuse returns why a command does nothing, 0 if it does.
func (m *model) refuse(c *command.Command, s command.SubjectRecord, there, gone bool) command.Code {
	keyUsed := there && c.KeyTag != command.KeyTag{} && c.KeyTag == s.KeyTag
	differs := c.Flags&command.HasExpected != 0 && (!there || c.Expected != s.Version)
	puts := c.Kind == command.Put || c.Kind == command.Bind
	switch {
	case c.Kind == command.Expire && (!there || s.Erased):
		return command.NotFound
	case c.Kind == command.Expire && c.Flags&command.HasExpected != 0 && differs:
		return command.VersionMismatch
	case c.Kind == command.Expire && c.Flags&command.HasExpected != 0:
		return 0
	case c.Kind == command.Expire && (!gone || c.Expiry != s.Expiry):
		return command.VersionMismatch
	case c.Kind == command.Expire:
		return 0
	case c.Kind == command.Erase && !there:
		return command.NotFound
	case c.Kind == command.Erase && s.Erased:
		return command.AlreadyErased
	case there && s.Erased:
		return command.Erased
	case keyUsed && (c.Version != s.Version || c.Kind == command.Erase):
		return command.TagConflict
	case keyUsed:
		return command.Replayed
	case c.Kind == command.Merge && (!there || gone):
		return command.NotFound
	case puts && !there && c.Flags&command.ReplaceOnly != 0:
		return command.NotFound
	case differs || puts && gone && c.Flags&command.HasExpected != 0:
		return command.VersionMismatch
	case puts && there && c.Flags&command.CreateOnly != 0:
		return command.Exists
	case puts && there && (!gone || len(m.linksOf(c.Subject)) > 0) && c.Domain != s.Domain:
		return command.Exists
	case m.taken(c):
		return command.Bound
	case len(m.linksOf(c.Subject))+len(c.Links) > command.MaxLinks:
		return command.TooManyLinks
	}
	return 0
}

func (m *model) setFields(c *command.Command, keep bool) {
	for _, f := range c.Fields {
		delete(m.fields, f.Token)
		if keep && f.Record != nil {
			m.fields[f.Token] = string(f.Record)
		}
	}
}

// unlink removes the links of a subject that is no more; of an erased one the
// aliases are erased as well.
func (m *model) unlink(c *command.Command, erased *command.SubjectRecord) {
	for _, token := range m.linksOf(c.Subject) {
		link := m.links[token]
		delete(m.links, token)
		if erased != nil && link.Kind == command.Alias {
			m.subjects[token] = command.SubjectRecord{
				Version: erased.Version, Domain: link.Domain, Expiry: erased.Expiry, Erased: true,
			}
		}
	}
}

// note records the changes of a subject and of the aliases it has.
func (m *model) note(c *command.Command, domain cloakroom.Domain, kind ChangeKind) {
	m.changes = append(m.changes, Change{c.Subject, domain, kind})
	for _, token := range m.linksOf(c.Subject) {
		if link := m.links[token]; link.Kind == command.Alias {
			m.changes = append(m.changes, Change{token, link.Domain, kind})
		}
	}
}

// subject returns the subject record under a token, links and aliases included.
func (m *model) subject(token cloakroom.Token) (command.SubjectRecord, bool) {
	if link := m.links[token]; link.Kind == command.Alias {
		return command.SubjectRecord{Domain: link.Domain, Alias: true, Sealed: link.Record}, true
	}
	s, ok := m.subjects[token]
	for _, link := range m.linksOf(token) {
		s.Links = append(append(s.Links, byte(m.links[link].Kind)), link[:]...)
	}
	return s, ok
}

// stored returns what the machine keeps under each token.
func (m *model) stored() (records map[cloakroom.Token][]byte, marks map[cloakroom.Token]mark) {
	records, marks = map[cloakroom.Token][]byte{}, map[cloakroom.Token]mark{}
	for token, record := range m.fields {
		records[token] = []byte(record)
	}
	for token, link := range m.links {
		marks[token] = subject
		records[token] = append([]byte{0x30}, link.Record...)
	}
	for _, tokens := range [][]cloakroom.Token{slices.Collect(maps.Keys(m.subjects)), slices.Collect(maps.Keys(m.links))} {
		for _, token := range tokens {
			if s, ok := m.subject(token); ok {
				marks[token] = subject
				records[token] = s.Append(nil)
			}
		}
	}
	return records, marks
}

// erased counts the erased marks.
func (m *model) erased() (n int) {
	for _, s := range m.subjects {
		if s.Erased {
			n++
		}
	}
	return n
}

// stream is what a snapshot of the model looks like.
func (m *model) stream() []byte {
	records, marks := m.stored()
	h := header{applied: m.applied, hash: m.hash, time: m.time, schema: m.schema, records: uint64(len(records)),
		living: uint64(len(m.subjects) - m.erased()), erased: uint64(m.erased())}
	out := h.append(nil)
	for _, token := range slices.SortedFunc(maps.Keys(records), compareTokens) {
		out = appendRecord(out, &token, records[token], marks[token])
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// expired is what a sweep finds.
func (m *model) expired(after cloakroom.Token, now uint32) (tokens []cloakroom.Token) {
	for token, s := range m.subjects {
		if !s.Erased && s.Expiry != 0 && s.Expiry <= now && compareTokens(token, after) > 0 {
			tokens = append(tokens, token)
		}
	}
	slices.SortFunc(tokens, compareTokens)
	return tokens
}

// living lists the living subjects after a token.
func (m *model) living(after cloakroom.Token) (tokens []cloakroom.Token) {
	for token, s := range m.subjects {
		if !s.Erased && compareTokens(token, after) > 0 {
			tokens = append(tokens, token)
		}
	}
	slices.SortFunc(tokens, compareTokens)
	return tokens
}

func compareTokens(a, b cloakroom.Token) int { return bytes.Compare(a[:], b[:]) }
