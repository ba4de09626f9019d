package directory

import (
	"encoding/json"
	"fmt"
	"slices"

	"cloakroom"
)

// MaxRecorded bounds the erasures of one [RecordErasures]: with every field
// there can be in each of them, it still fits a command.
const MaxRecorded = 256

// maxAt is the first time that the ledger can't hold, in milliseconds.
const maxAt = 1 << 48

// RecordErasures enters erasures in the ledger. What stands there already is
// passed over, so a command may come twice, in whole or in part. It publishes
// no view and counts in no epoch.
type RecordErasures struct {
	Entries []Erasure // 1 to MaxRecorded
}

// Erasure says what was removed for good, and up to where in the history of
// its shard: whatever an older copy holds of it may not be served again.
type Erasure struct {
	Subject    cloakroom.Token         // of the subject record
	Fields     []cloakroom.FieldNumber // ascending; none: the whole subject
	Shard      cloakroom.ShardID
	Generation uint32 // of the shard, from 1
	Index      uint64 // of the erasure in the shard
	At         int64  // shard time, unix milliseconds
}

// recordJSON is a RecordErasures as a command spells it.
type recordJSON struct {
	Entries []erasureJSON `json:"entries"`
}

type erasureJSON struct {
	Subject    ID                      `json:"subject"` // hex
	Fields     []cloakroom.FieldNumber `json:"fields,omitempty"`
	Shard      cloakroom.ShardID       `json:"shard"`
	Generation uint32                  `json:"generation"`
	Index      uint64                  `json:"index"`
	At         int64                   `json:"at"`
}

// MarshalJSON writes the subjects in hex.
func (c RecordErasures) MarshalJSON() ([]byte, error) {
	wire := recordJSON{make([]erasureJSON, len(c.Entries))}
	for i, e := range c.Entries {
		wire.Entries[i] = erasureJSON{ID(e.Subject), e.Fields, e.Shard, e.Generation, e.Index, e.At}
	}
	return json.Marshal(wire)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *RecordErasures) UnmarshalJSON(text []byte) error {
	var wire recordJSON
	if err := json.Unmarshal(text, &wire); err != nil {
		return err
	}
	c.Entries = make([]Erasure, len(wire.Entries))
	for i, e := range wire.Entries {
		c.Entries[i] = Erasure{cloakroom.Token(e.Subject), e.Fields, e.Shard, e.Generation, e.Index, e.At}
	}
	return nil
}

// Fault returns what is wrong with e in view v, or "". What fits one view fits
// every later one.
func (e *Erasure) Fault(v *View) string {
	switch {
	case e.Subject == cloakroom.Token{}:
		return "the subject is missing"
	case int(e.Shard) >= len(v.Shards):
		return "an unknown shard"
	case e.Generation == 0 || e.Generation > v.Shards[e.Shard].Generation:
		return "an unknown generation"
	case e.Index == 0:
		return "the index is missing"
	case e.At < 0 || e.At >= maxAt:
		return "the time is out of range"
	case len(e.Fields) > cloakroom.MaxFields:
		return fmt.Sprintf("more than %d fields", cloakroom.MaxFields)
	}
	for i, f := range e.Fields {
		if i > 0 && f <= e.Fields[i-1] {
			return "the fields do not ascend"
		}
		if v.Schema.Number(f) == nil {
			return "a field that was never declared"
		}
	}
	return ""
}

// record carries out cmd: all of its entries or, if one is refused, none.
func (m *Machine) record(cmd *RecordErasures) Result {
	v := m.Load()
	result := Result{Epoch: v.Epoch, SchemaEpoch: v.Schema.Epoch}
	refuse := func(code Code, detail string) Result {
		result.Code, result.Detail = code, detail
		return result
	}
	if n := len(cmd.Entries); n == 0 || n > MaxRecorded {
		return refuse(Invalid, fmt.Sprintf("erasures: want 1 to %d", MaxRecorded))
	}
	var rows []row
	for i := range cmd.Entries {
		if fault := cmd.Entries[i].Fault(v); fault != "" {
			return refuse(Invalid, fmt.Sprintf("erasure %d: %s", i, fault))
		}
		rows = cmd.Entries[i].appendRows(rows)
	}
	changed, full := m.ledger.enter(rows)
	switch {
	case full:
		return refuse(Exhausted, fmt.Sprintf("the ledger holds %d erasures", MaxErasures))
	case !changed:
		result.Code = Already
	}
	return result
}

// appendRows appends the rows of e to rows.
func (e *Erasure) appendRows(rows []row) []row {
	if len(e.Fields) == 0 {
		return append(rows, e.row(cloakroom.SubjectField))
	}
	rows = slices.Grow(rows, len(e.Fields))
	for _, f := range e.Fields {
		rows = append(rows, e.row(f))
	}
	return rows
}
