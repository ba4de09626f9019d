package state

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"

	"pgregory.net/rapid"
)

// tokens of the model test: few, so that commands meet.
func modelToken(n int) cloakroom.Token {
	sum := sha256.Sum256([]byte{byte(n)})
	return cloakroom.Token(sum[:16])
}

// linkToken draws one of the few tokens of links, now and then a subject's or a
// field's.
func linkToken(t *rapid.T) cloakroom.Token {
	if rapid.IntRange(0, 11).Draw(t, "foreign link") == 0 {
		return modelToken(rapid.IntRange(0, 31).Draw(t, "token"))
	}
	return modelToken(64 + rapid.IntRange(0, 7).Draw(t, "link token"))
}

// drawLinks makes a command a bind of up to 3 links.
func drawLinks(t *rapid.T, c *command.Command) {
	used := []cloakroom.Token{c.Subject}
	for _, f := range c.Fields {
		used = append(used, f.Token)
	}
	for range rapid.IntRange(1, 3).Draw(t, "links") {
		l := command.Link{Kind: command.Handle, Token: linkToken(t)}
		l.Record = rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "link record")
		if rapid.Bool().Draw(t, "alias") {
			l.Kind, l.Domain = command.Alias, cloakroom.Domain(rapid.IntRange(0, 2).Draw(t, "link domain"))
		}
		if !slices.Contains(used, l.Token) {
			used = append(used, l.Token)
			c.Links = append(c.Links, l)
		}
	}
	if len(c.Links) == 0 {
		c.Kind = command.Put
	}
}

// drawCommand draws a command over 5 subjects with 3 fields each; now and then
// a token is used as what it is not.
func drawCommand(t *rapid.T, now uint32) command.Command {
	small := rapid.IntRange(0, 2)
	person := rapid.IntRange(0, 4).Draw(t, "subject")
	c := command.Command{
		Kind: rapid.SampledFrom([]command.Kind{
			command.Put, command.Put, command.Put, command.Merge, command.Merge, command.Erase, command.Expire,
			command.Time, command.Touch, command.Level, command.Bind, command.Bind, command.Bind,
		}).Draw(t, "kind"),
		Flags:       command.Flags(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 32, 34, 64, 66}).Draw(t, "flags")),
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
	switch rapid.IntRange(0, 15).Draw(t, "link as") {
	case 0:
		c.Fields = append(c.Fields, command.Field{Token: linkToken(t), Record: []byte("over a link")})
	case 1, 2:
		c.Subject = linkToken(t)
	}
	c.Fields = slices.DeleteFunc(c.Fields, func(f command.Field) bool { return f.Token == c.Subject })
	c.SortFields()
	c.Fields = slices.CompactFunc(c.Fields, func(a, b command.Field) bool { return a.Token == b.Token })
	if c.Kind == command.Bind {
		drawLinks(t, &c)
		c.SortFields()
	}
	return c
}

// TestMachineEqualsModel compares answers, reads, sweeps, what a watcher is told,
// snapshots taken at any moment and restored ones with the plain maps. rapid prints the seed.
func TestMachineEqualsModel(t *testing.T) {
	slab := newSlab(t, 0)
	rapid.Check(t, func(rt *rapid.T) {
		var watch recorder
		m, err := New(Config{Slab: slab, Watch: &watch})
		if err != nil {
			rt.Fatal(err)
		}
		run := modelRun{t: rt, machine: m, watch: &watch, model: newModel()}
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
	watch   *recorder
	model   *model
	views   []*View
	streams [][]byte // what each view must write
}

func (r *modelRun) apply(t *rapid.T) {
	commands := make([]command.Command, rapid.IntRange(0, 4).Draw(t, "commands"))
	for i := range commands {
		commands[i] = drawCommand(t, r.model.seconds())
		if c := &commands[i]; c.Kind == command.Expire {
			r.sweep(t, c)
		}
	}
	batch := command.AppendBatch(nil, commands)
	index := r.model.applied + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
	*r.watch = recorder{}
	got, err := r.machine.Apply(index, batch, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.model.apply(index, batch, commands); !slices.Equal(got, want) {
		t.Fatalf("results %v, want %v, of %+v", got, want, commands)
	}
	if !slices.Equal(r.watch.changes, r.model.changes) || r.watch.told != min(1, len(r.model.changes)) {
		t.Fatalf("told %d times of %v, want %v, of %+v", r.watch.told, r.watch.changes, r.model.changes, commands)
	}
}

// sweep makes an expire of what a sweeper would propose, if there is anything
// and mostly.
func (r *modelRun) sweep(t *rapid.T, c *command.Command) {
	due := r.model.expired(cloakroom.Token{}, r.model.seconds())
	if len(due) == 0 || rapid.IntRange(0, 4).Draw(t, "not as the sweeper") == 0 {
		return
	}
	c.Subject = rapid.SampledFrom(due).Draw(t, "due")
	c.Expiry, c.SchemaEpoch = r.model.subjects[c.Subject].Expiry, max(c.SchemaEpoch, r.model.schema)
	c.Fields = slices.DeleteFunc(c.Fields, func(f command.Field) bool { return f.Token == c.Subject })
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
	*r.watch = recorder{}
	if err := r.machine.Restore(bytes.NewReader(r.model.stream())); err != nil {
		t.Fatal(err)
	}
	if r.watch.restored != 1 || r.watch.index != r.model.applied || r.watch.told != 0 {
		t.Fatalf("after a restore the watcher was told %+v", *r.watch)
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
	want, _ := r.model.stored()
	for i, token := range tokens {
		if !bytes.Equal(got.At(i), want[token]) {
			t.Fatalf("record %d = %q, want %q", i, got.At(i), want[token])
		}
		s, there := r.model.subject(token)
		if gotS, ok := r.machine.Subject(token); ok != there || !gotS.Equal(&s) {
			t.Fatalf("subject %d = %+v, %t, want %+v, %t", i, gotS, ok, s, there)
		}
	}
	r.compareSweep(t)
	stats := r.machine.Stats()
	if stats.Hash != r.model.hash || stats.Applied != r.model.applied || stats.Schema != r.model.schema ||
		stats.Subjects != len(r.model.subjects)-r.model.erased() || stats.Erased != r.model.erased() ||
		stats.Linked != len(r.model.links) || stats.Records != len(want) {
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
	got = nil
	for after := start; len(got) <= 8; after = got[len(got)-1] {
		n := len(got)
		if got = r.machine.Living(after, 2, got); len(got) == n {
			break
		}
	}
	if want := r.model.living(start); !slices.Equal(got, want) {
		t.Fatalf("living are %x, want %x", got, want)
	}
}

// recorder is a watcher that keeps what it was told.
type recorder struct {
	told, restored int
	index          uint64
	changes        []Change
}

func (r *recorder) Applied(index uint64, changes []Change) {
	r.told, r.index, r.changes = r.told+1, index, append(r.changes, changes...)
}

func (r *recorder) Restored(index uint64) { r.restored, r.index = r.restored+1, index }
