package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/policy"
)

// schemaJSON is the schema on the wire.
type schemaJSON struct {
	Epoch  uint32      `json:"epoch"` // PUT: the epoch the change builds on
	Fields []fieldJSON `json:"fields"`
}

// fieldJSON is one field on the wire. PUT may leave the number out: a field of
// that name keeps its own, a new one gets the next.
type fieldJSON struct {
	Number       cloakroom.FieldNumber `json:"number,omitempty"`
	Name         string                `json:"name"`
	Type         directory.FieldType   `json:"type"`
	Purposes     []string              `json:"purposes"`
	MaxRetention string                `json:"max_retention"` // a Go duration, "8760h"
	MaxBytes     int                   `json:"max_bytes,omitempty"`
	Retired      bool                  `json:"retired,omitempty"`
}

// Schema returns every field ever declared.
func (n *Node) Schema(ctx context.Context, req *api.Request) ([]byte, error) {
	c := req.Caller.(*caller)
	entry, err := n.operate(ctx, req, c, policy.SchemaRead)
	if err != nil {
		return nil, err
	}
	entry.Outcome = outcomeOf(nil)
	if err := n.audit.Write(ctx, &entry); err != nil {
		return nil, err
	}
	return schemaText(c.rules.view.Schema), nil
}

// SetSchema declares the live fields anew. Fields left out are retired: they
// take no values any more and are erased with their subjects all the same.
//
// It returns once every shard knows the schema and answers nobody from before,
// so that no node reads or writes by an older one from then on.
// [cloakroom.ErrOutcomeUnknown] says that it may be in force, and is perhaps
// not known everywhere yet.
func (n *Node) SetSchema(ctx context.Context, req *api.Request, body []byte) ([]byte, error) {
	c := req.Caller.(*caller)
	entry, err := n.operate(ctx, req, c, policy.SchemaWrite)
	if err != nil {
		return nil, err
	}
	change, err := parseSchema(body)
	if err == nil {
		err = n.schemaFaults(change)
	}
	if err != nil {
		return nil, n.refused(ctx, entry, err)
	}
	if err := n.intent(ctx, entry); err != nil {
		return nil, err
	}
	epoch, err := n.changeSchema(ctx, change)
	if err == nil {
		err = n.warm()
	}
	if err == nil {
		err = n.tellShards(ctx, epoch)
	}
	if err := n.outcome(ctx, entry, err); err != nil {
		return nil, err
	}
	return schemaText(n.cluster.Directory().Schema), nil
}

// schemaFaults returns what is wrong with a change, as [cloakroom.Faults], as
// far as this node can tell: it may not know the schema yet that the change
// builds on.
func (n *Node) schemaFaults(change *directory.SetSchema) error {
	schema := n.cluster.Directory().Schema
	if schema.Epoch != change.ExpectedEpoch {
		return nil
	}
	if faults := schema.Faults(change.Fields); len(faults) > 0 {
		return faults
	}
	return nil
}

// changeSchema has the directory carry out the change and returns the epoch of
// the new schema. A refusal says why.
func (n *Node) changeSchema(ctx context.Context, change *directory.SetSchema) (uint32, error) {
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{SetSchema: change})
	if err != nil {
		return 0, err
	}
	switch result.Code {
	case directory.Conflict:
		err = api.Because(cloakroom.ErrConflict, "the schema is at another epoch: get it, and build the change on what it says")
	case directory.Invalid:
		if err = n.schemaFaults(change); err == nil {
			err = result.Err()
		}
	default:
		err = result.Err()
	}
	return result.SchemaEpoch, err
}

// tellShards makes every shard know the schema, and waits until none of its
// replicas answers from before it did.
func (n *Node) tellShards(ctx context.Context, epoch uint32) error {
	faults := make([]error, len(n.cluster.Directory().Shards))
	var shards sync.WaitGroup
	for i := range faults {
		shards.Go(func() { faults[i] = n.tellShard(ctx, cloakroom.ShardID(i), epoch) }) // ends with the shard's answer or ctx
	}
	shards.Wait()
	if err := errors.Join(faults...); err != nil {
		n.cfg.Logger.Warn("schema not known to every shard", "error", err)
		return fmt.Errorf("%w: the schema is in force, not every shard knows it: %v", cloakroom.ErrOutcomeUnknown, err)
	}
	return nil
}

func (n *Node) tellShard(ctx context.Context, shard cloakroom.ShardID, epoch uint32) error {
	level := []command.Command{{Kind: command.Level, SchemaEpoch: epoch}}
	results, at, err := n.cluster.Propose(ctx, shard, level)
	for errors.Is(err, cloakroom.ErrOutcomeUnknown) && ctx.Err() == nil { // telling it twice does no harm
		results, at, err = n.cluster.Propose(ctx, shard, level)
	}
	if err == nil {
		err = results[0].Err(command.Level)
	}
	if err != nil {
		return err
	}
	return n.cluster.Settle(ctx, at)
}

// operate is the gate of requests that touch no subject.
func (n *Node) operate(ctx context.Context, req *api.Request, c *caller, action policy.Action) (audit.Entry, error) {
	entry := entryOf(req, c, action)
	_, err := policy.Decide(&c.grant, &policy.Request{Action: action}, n.now().Unix())
	if err == nil && action != policy.Status && action != policy.Metrics { // most needed when the directory is lost
		err = n.current(c.rules, 0)
	}
	if err != nil {
		return entry, n.refused(ctx, entry, err)
	}
	return entry, nil
}

// ParseSchema reads the fields of a schema as [Node.SetSchema] does, for
// [InitConfig].
func ParseSchema(document []byte) ([]directory.Field, error) {
	change, err := parseSchema(document)
	if err != nil {
		return nil, err
	}
	return change.Fields, nil
}

// parseSchema reads a schema from the wire. Every live field names purposes
// and a longest retention: data protection by default (GDPR art. 25).
func parseSchema(body []byte) (*directory.SetSchema, error) {
	var wire schemaJSON
	// encoding/json takes another case of a name for the name.
	if err := json.Unmarshal(body, &wire, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read schema: %w", cloakroom.ErrMalformed)
	}
	if wire.Fields == nil { // to leave the member out is no way to retire every field
		return nil, fmt.Errorf("read schema: no member fields: %w", cloakroom.ErrMalformed)
	}
	change := &directory.SetSchema{ExpectedEpoch: wire.Epoch}
	var faults cloakroom.Faults
	for i, f := range wire.Fields {
		retention, err := time.ParseDuration(f.MaxRetention)
		if !f.Retired && (err != nil || retention <= 0) {
			faults = append(faults, cloakroom.Fault{Item: i, Reason: "needs max_retention, a duration such as 8760h"})
		}
		if !f.Retired && len(f.Purposes) == 0 {
			faults = append(faults, cloakroom.Fault{Item: i, Reason: "needs at least one purpose"})
		}
		if f.Type == directory.Sealed {
			faults = append(faults, cloakroom.Fault{Item: i, Reason: "type sealed is not served yet"})
		}
		change.Fields = append(change.Fields, directory.Field{
			Number: f.Number, Name: f.Name, Type: f.Type, Purposes: f.Purposes,
			MaxRetention: retention, MaxBytes: f.MaxBytes, Retired: f.Retired,
		})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return change, nil
}

func schemaText(s *directory.Schema) []byte {
	wire := schemaJSON{Epoch: s.Epoch, Fields: make([]fieldJSON, len(s.Fields))}
	for i, f := range s.Fields {
		wire.Fields[i] = fieldJSON{
			Number: f.Number, Name: f.Name, Type: f.Type, Purposes: f.Purposes,
			MaxRetention: f.MaxRetention.String(), MaxBytes: f.MaxBytes, Retired: f.Retired,
		}
	}
	return mustJSON(wire)
}
