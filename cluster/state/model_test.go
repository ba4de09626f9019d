package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"

	"pgregory.net/rapid"
)

// model is the shard machine as a plain map, without an index, slots or
// stages: what the machine must be equal to.
type model struct {
	subjects map[cloakroom.Token]command.SubjectRecord
	fields   map[cloakroom.Token]string
	time     uint64
	schema   uint32
	applied  uint64
	hash     [32]byte
}

func newModel() *model {
	return &model{subjects: map[cloakroom.Token]command.SubjectRecord{}, fields: map[cloakroom.Token]string{}}
}

func (m *model) seconds() uint32 { return uint32(min(m.time/1000, 1<<32-1)) }

// apply carries one entry out and returns the answers.
func (m *model) apply(index uint64, batch []byte, commands []command.Command) (results []command.Result) {
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
	case command.Touch, command.Reseal, command.Bind, command.Slice:
		return command.Result{Code: command.Unsupported}
	}
	if c.SchemaEpoch < m.schema {
		return command.Result{Code: command.StaleSchema}
	}
	m.schema = c.SchemaEpoch
	if m.clashes(c) {
		return command.Result{Code: command.Malformed}
	}
	before, there := m.subjects[c.Subject]
	code := m.write(c, before, there)
	after := m.subjects[c.Subject]
	return command.Result{Code: code, Version: after.Version, Expiry: after.Expiry, Domain: after.Domain}
}

// clashes: a token is a subject's or a field's, never both.
func (m *model) clashes(c *command.Command) bool {
	_, clash := m.fields[c.Subject]
	for _, f := range c.Fields {
		_, isSubject := m.subjects[f.Token]
		clash = clash || isSubject
	}
	return clash
}

// write changes the model, and returns the code, for the kinds that write.
func (m *model) write(c *command.Command, s command.SubjectRecord, there bool) command.Code {
	gone := there && !s.Erased && s.Expiry != 0 && s.Expiry <= m.seconds()
	keyUsed := there && c.KeyTag != command.KeyTag{} && c.KeyTag == s.KeyTag
	differs := c.Flags&command.HasExpected != 0 && (!there || c.Expected != s.Version)
	switch {
	case c.Kind == command.Expire && (!there || s.Erased):
		return command.NotFound
	case c.Kind == command.Expire && (!gone || c.Expiry != s.Expiry):
		return command.VersionMismatch
	case c.Kind == command.Expire:
		delete(m.subjects, c.Subject)
		m.setFields(c, false)
		return command.Done
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
	case c.Kind == command.Put && !there && c.Flags&command.ReplaceOnly != 0:
		return command.NotFound
	case differs || c.Kind == command.Put && gone && c.Flags&command.HasExpected != 0:
		return command.VersionMismatch
	case c.Kind == command.Put && there && c.Flags&command.CreateOnly != 0:
		return command.Exists
	case c.Kind == command.Put && there && !gone && c.Domain != s.Domain:
		return command.Exists
	}
	next := command.SubjectRecord{Version: c.Version, Domain: c.Domain, KeyTag: c.KeyTag, Expiry: c.Expiry}
	code := command.Created
	switch {
	case c.Kind == command.Erase:
		next.Domain, next.Expiry, next.Erased = s.Domain, m.seconds(), true
		code = command.Erased
	case c.Kind == command.Merge:
		next.Domain, next.Expiry = s.Domain, cmp.Or(c.Expiry, s.Expiry)
		code = command.Merged
	case there && !gone:
		code = command.Replaced
	}
	m.subjects[c.Subject] = next
	m.setFields(c, c.Kind != command.Erase)
	return code
}

func (m *model) setFields(c *command.Command, keep bool) {
	for _, f := range c.Fields {
		delete(m.fields, f.Token)
		if keep && f.Record != nil {
			m.fields[f.Token] = string(f.Record)
		}
	}
}

// stream is what a snapshot of the model looks like.
func (m *model) stream() []byte {
	h := header{applied: m.applied, hash: m.hash, time: m.time, schema: m.schema,
		records: uint64(len(m.subjects) + len(m.fields))}
	all := map[cloakroom.Token][]byte{}
	for token, s := range m.subjects {
		if s.Erased {
			h.erased++
		} else {
			h.living++
		}
		all[token] = appendRecord(nil, &token, s.Append(nil), subject)
	}
	for token, record := range m.fields {
		all[token] = appendRecord(nil, &token, []byte(record), 0)
	}
	out := h.append(nil)
	for _, token := range slices.SortedFunc(maps.Keys(all), compareTokens) {
		out = append(out, all[token]...)
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

func compareTokens(a, b cloakroom.Token) int { return bytes.Compare(a[:], b[:]) }

// tokens of the model test: few, so that commands meet.
func modelToken(n int) cloakroom.Token {
	sum := sha256.Sum256([]byte{byte(n)})
	return cloakroom.Token(sum[:16])
}

// drawCommand draws a command over 5 subjects with 3 fields each; now and then
// a field's token is used as a subject's.
func drawCommand(t *rapid.T, now uint32) command.Command {
	small := rapid.IntRange(0, 2)
	person := rapid.IntRange(0, 4).Draw(t, "subject")
	c := command.Command{
		Kind: rapid.SampledFrom([]command.Kind{
			command.Put, command.Put, command.Put, command.Merge, command.Merge, command.Erase, command.Expire,
			command.Time, command.Touch, command.Level,
		}).Draw(t, "kind"),
		Flags:       command.Flags(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 32, 34}).Draw(t, "flags")),
		Domain:      cloakroom.Domain(small.Draw(t, "domain")),
		SchemaEpoch: uint32(rapid.SampledFrom([]int{2, 2, 2, 2, 2, 2, 0, 1}).Draw(t, "schema")),
		Subject:     modelToken(person),
		Version:     cloakroom.Version{byte(small.Draw(t, "version"))},
		KeyTag:      command.KeyTag{byte(rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "tag"))},
	}
	if small.Draw(t, "expires") == 0 {
		c.Expiry = now + uint32(rapid.IntRange(0, 5).Draw(t, "expiry"))
	}
	if c.Kind == command.Time {
		c.Value = uint64(rapid.IntRange(0, 30_000).Draw(t, "time"))
	}
	if c.Flags&command.HasExpected != 0 {
		c.Expected = cloakroom.Version{byte(small.Draw(t, "expected"))}
	}
	if rapid.IntRange(0, 30).Draw(t, "clash") == 0 {
		person = 100
	}
	for f := range 3 {
		switch rapid.IntRange(0, 3).Draw(t, "field") {
		case 0:
		case 1:
			c.Fields = append(c.Fields, command.Field{Token: modelToken(person + 8*(1+f))})
		default:
			record := rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(t, "record")
			if len(record) == 30 {
				record = bytes.Repeat(record, 40) // beyond the exact slot classes
			}
			c.Fields = append(c.Fields, command.Field{Token: modelToken(person + 8*(1+f)), Record: record})
		}
	}
	if person == 100 {
		c.Subject = modelToken(8 + rapid.IntRange(0, 7).Draw(t, "field as subject"))
	}
	c.SortFields()
	return c
}

// TestMachineEqualsModel compares answers, reads, sweeps, snapshots taken at
// any moment and restored ones with the plain map. rapid prints the seed.
func TestMachineEqualsModel(t *testing.T) {
	slab := newSlab(t, 0)
	rapid.Check(t, func(rt *rapid.T) {
		m, err := New(Config{Slab: slab})
		if err != nil {
			rt.Fatal(err)
		}
		run := modelRun{t: rt, machine: m, model: newModel()}
		defer func() { // also when rapid gives a run up
			for _, v := range run.views {
				v.Release()
			}
			m.drop(m.index)
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"apply":   run.apply,
			"view":    run.view,
			"release": run.release,
			"restore": run.restore,
			"":        run.compare,
		})
		for len(run.views) > 0 {
			run.release(rt)
		}
		if s := m.Stats(); s.Parked != 0 || s.Views != 0 {
			rt.Fatalf("after the last view: %d parked slots, %d views, want none", s.Parked, s.Views)
		}
	})
	if n := slab.Stats().Used; n != 0 {
		t.Errorf("%d bytes left behind, want 0", n)
	}
}

// modelRun is one run of the model test.
type modelRun struct {
	t       *rapid.T
	machine *Machine
	model   *model
	views   []*View
	streams [][]byte // what each view must write
}

func (r *modelRun) apply(t *rapid.T) {
	commands := make([]command.Command, rapid.IntRange(0, 4).Draw(t, "commands"))
	for i := range commands {
		commands[i] = drawCommand(t, r.model.seconds())
	}
	batch := command.AppendBatch(nil, commands)
	index := r.model.applied + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
	got, err := r.machine.Apply(index, batch, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.model.apply(index, batch, commands); !slices.Equal(got, want) {
		t.Fatalf("results %v, want %v, of %+v", got, want, commands)
	}
}

func (r *modelRun) view(t *rapid.T) {
	v, err := r.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r.views, r.streams = append(r.views, v), append(r.streams, r.model.stream())
}

func (r *modelRun) release(t *rapid.T) {
	if len(r.views) == 0 {
		return
	}
	i := rapid.IntRange(0, len(r.views)-1).Draw(t, "view")
	var out bytes.Buffer
	if _, err := r.views[i].WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), r.streams[i]) {
		t.Fatalf("view %d differs from the model at that time", i)
	}
	r.views[i].Release()
	r.views[i].Release() // does nothing
	r.views, r.streams = slices.Delete(r.views, i, i+1), slices.Delete(r.streams, i, i+1)
}

func (r *modelRun) restore(t *rapid.T) {
	if err := r.machine.Restore(bytes.NewReader(r.model.stream())); err != nil {
		t.Fatal(err)
	}
}

// compare looks at everything a reader can see.
func (r *modelRun) compare(t *rapid.T) {
	var tokens []cloakroom.Token
	for n := range 140 {
		tokens = append(tokens, modelToken(n))
	}
	var got command.Records
	r.machine.Read(tokens, &got)
	if got.Time != r.model.time {
		t.Fatalf("time %d, want %d", got.Time, r.model.time)
	}
	for i, token := range tokens {
		want := r.model.fields[token]
		s, there := r.model.subjects[token]
		if there {
			want = string(s.Append(nil))
		}
		if string(got.At(i)) != want {
			t.Fatalf("record %d = %q, want %q", i, got.At(i), want)
		}
		if gotS, ok := r.machine.Subject(token); ok != there || !gotS.Equal(&s) {
			t.Fatalf("subject %d = %+v, %t, want %+v, %t", i, gotS, ok, s, there)
		}
	}
	r.compareSweep(t)
	stats := r.machine.Stats()
	if stats.Hash != r.model.hash || stats.Applied != r.model.applied || stats.Schema != r.model.schema ||
		stats.Subjects+stats.Erased != len(r.model.subjects) ||
		stats.Records != len(r.model.subjects)+len(r.model.fields) {
		t.Fatalf("stats %+v differ from the model", stats)
	}
}

func (r *modelRun) compareSweep(t *rapid.T) {
	now := uint32(rapid.IntRange(0, 40).Draw(t, "sweep at"))
	start := modelToken(rapid.IntRange(0, 7).Draw(t, "sweep after"))
	var got []cloakroom.Token
	for after := start; len(got) <= 8; after = got[len(got)-1] {
		n := len(got)
		if got = r.machine.Expired(after, now, 2, got); len(got) == n {
			break
		}
	}
	if want := r.model.expired(start, now); !slices.Equal(got, want) {
		t.Fatalf("sweep found %x, want %x", got, want)
	}
}
