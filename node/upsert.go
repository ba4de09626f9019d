package node

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/node/record"
	"cloakroom/securemem"
)

// person is the subject of an upsert, whom the caller knows by the name that an
// issuer has for it. What links the two is a handle, a token that follows from
// issuer and name (node/record); the sealed pseudonym lies under it.
type person struct {
	source *api.Source

	handle  cloakroom.Token // of the person
	further cloakroom.Token // of its pseudonym in the domain asked, unless that is its own
	slot    cloakroom.Slot
	domain  cloakroom.Domain // asked for

	known bool // the handle led to a subject
	main  cloakroom.Pseudonym
	own   cloakroom.Domain    // of main
	alias cloakroom.Pseudonym // of the domain asked, if that is another than own
	bound bool                // the alias is there already
	links [2]command.Link     // memory for those of the command
}

// errElsewhere is what a write gets whose shard found another state of things
// than the write was made for: the pseudonym is an alias, a handle was bound, a
// subject went. Nothing was done; the write looks again. Whoever hears of it
// has met ten others in a row.
var errElsewhere = fmt.Errorf("the subject is elsewhere: %w", cloakroom.ErrConflict)

// reasonPseudonyms is told of a person who has all pseudonyms that there is room
// for in its record.
const reasonPseudonyms = "names a person with pseudonyms of too many domains"

// Upsert creates, or finds and replaces, the subject of a source.
func (n *Node) Upsert(ctx context.Context, req *api.Request, source *api.Source, d *api.Deposit) (api.Deposited, error) {
	var result [1]api.Deposited
	w := &write{req: req, action: policy.Deposit, person: &person{source: source},
		items: []api.Deposit{*d}, results: result[:]}
	if err := n.write(ctx, w); err != nil {
		return api.Deposited{}, err
	}
	return result[0], nil
}

// meet computes the handles of the person. The domain asked has been decided on.
func (n *Node) meet(w *write) {
	p := w.person
	p.domain = w.drafts[0].command.Domain
	securemem.Do(func() { p.handle = n.records.Handle(p.source.Issuer, p.source.Subject) })
	p.further = n.records.DomainHandle(p.handle, p.domain)
	p.slot = n.records.HandleSlot(p.handle)
}

// lookUp finds out whether the person is known. The first look is at what this
// node has; a replica that is behind shows in what the shard answers, and then
// the next one is linearizable.
func (n *Node) lookUp(ctx context.Context, w *write) error {
	p := w.person
	n.meet(w)
	level := w.req.Level
	if w.retry {
		level = cloakroom.Linearizable
	}
	shard := w.rules.view.ShardOf(p.slot)
	tokens := []cloakroom.Token{p.handle, p.further}
	var records command.Records
	if err := n.cluster.Read(ctx, shard, level, indexOf(w.waits, shard), tokens, &records); err != nil {
		return err
	}
	var err error
	securemem.Do(func() { err = n.openHandles(p, &records) })
	if err == nil && !p.known && w.req.HasIfMatch {
		return cloakroom.ErrVersion
	}
	if err == nil {
		err = n.drawPseudonyms(p)
	}
	return err
}

// openHandles opens what lies under the handles of p.
func (n *Node) openHandles(p *person, records *command.Records) (err error) {
	p.known, p.bound = false, false
	if records.At(0) == nil {
		return nil
	}
	if p.main, p.own, err = n.openHandle(p.handle, records.At(0)); err != nil {
		return err
	}
	p.known = true
	if p.own == p.domain || records.At(1) == nil {
		return nil
	}
	p.alias, _, err = n.openHandle(p.further, records.At(1))
	p.bound = err == nil
	return err
}

func (n *Node) openHandle(token cloakroom.Token, stored []byte) (cloakroom.Pseudonym, cloakroom.Domain, error) {
	sealed, err := command.DecodeHandle(stored)
	if err != nil {
		return cloakroom.Pseudonym{}, 0, fmt.Errorf("read handle: %v", err) // not the caller's fault
	}
	return n.records.OpenPseudonym(token, sealed)
}

// drawPseudonyms draws the pseudonyms that p lacks.
func (n *Node) drawPseudonyms(p *person) (err error) {
	if !p.known {
		p.own = p.domain
		p.main, err = n.records.Draw(p.slot, n.random)
		return err
	}
	if p.own != p.domain && !p.bound {
		p.alias, err = n.records.Draw(p.slot, n.random)
	}
	return err
}

// answer is the pseudonym that the caller is told.
func (p *person) answer() cloakroom.Pseudonym {
	if p.own == p.domain {
		return p.main
	}
	return p.alias
}

// draft fills in what makes a command that of an upsert: one that makes the
// person with its handle, one that replaces its fields, or one that does so and
// adds a pseudonym. Who is known is never made anew without the handle.
func (p *person) draft(c *command.Command) {
	c.Domain = p.own
	switch {
	case !p.known:
		c.Kind, c.Flags = command.Bind, command.CreateOnly
	case p.own == p.domain || p.bound:
		c.Kind, c.Flags = command.Put, command.ReplaceOnly
	default:
		c.Kind, c.Flags = command.Bind, command.ReplaceOnly
	}
}

// linkBytes is room for what sealLinks seals.
const linkBytes = 2 * record.SealedPseudonym

// sealLinks adds to the command of a bind what links the person's names, and
// returns memory with it.
func (n *Node) sealLinks(p *person, c *command.Command, memory []byte) ([]byte, error) {
	c.Links = nil
	if c.Kind != command.Bind {
		return memory, nil
	}
	if !p.known {
		handle := command.Link{Kind: command.Handle, Token: p.handle}
		memory, err := n.sealLink(&handle, p.main, p.own, memory)
		c.Links = append(p.links[:0], handle)
		return memory, err
	}
	handle := command.Link{Kind: command.Handle, Token: p.further}
	memory, err := n.sealLink(&handle, p.alias, p.domain, memory)
	if err != nil {
		return memory, err
	}
	alias := command.Link{Kind: command.Alias, Domain: p.domain}
	if alias.Token, err = n.records.Token(cloakroom.SubjectField, p.alias); err != nil {
		return memory, err
	}
	memory, err = n.sealLink(&alias, p.main, p.own, memory)
	c.Links = append(p.links[:0], handle, alias) // the command's SortFields puts them in order
	return memory, err
}

// sealLink seals the pseudonym that a link leads to.
func (n *Node) sealLink(l *command.Link, to cloakroom.Pseudonym, domain cloakroom.Domain, memory []byte) ([]byte, error) {
	from := len(memory)
	memory, err := n.records.SealPseudonym(memory, l.Token, to, domain)
	l.Record = memory[from:len(memory):len(memory)]
	return memory, err
}

// created says whether the answer is a pseudonym that nobody knew before.
func (p *person) created() bool { return !p.known || p.own != p.domain && !p.bound }

// settle turns the shard's answer to an upsert into what becomes of it.
func (p *person) settle(c *command.Command, result command.Result, out *api.Deposited) {
	out.Created = p.created()
	switch result.Code {
	case command.Bound, command.Exists, command.NotFound, command.Erased:
		out.Err = errElsewhere
	case command.Replayed:
		// A bind that was done before was another's: what it bound is not
		// what this one drew.
		if c.Kind == command.Bind {
			out.Err = errElsewhere
		}
	case command.TooManyLinks:
		out.Err = cloakroom.Faults{{Item: -1, Reason: reasonPseudonyms}}
	}
}

// issuer is whose name for the subject an upsert goes by, nil for any other
// write.
func (w *write) issuer() []byte {
	if w.person == nil {
		return nil
	}
	return w.person.source.Issuer
}
