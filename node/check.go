package node

import (
	"bytes"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/node/record"
)

// Reasons of this room; those for values come from package record. They are
// constant texts: nothing the caller sent comes back in one.
const (
	reasonUnknownField = "names a field that the schema does not declare"
	reasonKind         = "has the wrong JSON type"
	reasonNull         = "is null: leave it out, or erase it with PATCH"
	reasonNoFields     = "has no fields"
	reasonTooLarge     = "is over 64 KiB in all"
	reasonTTLLong      = "is kept by the schema for less than ttl"
	reasonTTLPast      = "has a ttl that is over already"
	reasonTTLCentury   = "has a ttl of over a hundred years"
	reasonTTLAlone     = "has a ttl for a field without a value"
)

// noFields is the empty set of fields.
var noFields policy.Fields

// check holds item i against the schema. It returns the fields the item names
// and faults with what is wrong added.
func (w *write) check(i int, faults cloakroom.Faults) (policy.Fields, cloakroom.Faults) {
	item := &w.items[i]
	at := -1
	if w.batch {
		at = i
	}
	var named policy.Fields
	total := 0
	for j := range item.Fields {
		v := &item.Fields[j]
		f := w.rules.field(v.Name)
		if f == nil {
			faults = append(faults, cloakroom.Fault{Item: at, Reason: reasonUnknownField})
			continue
		}
		named.Add(f.Number)
		if f.Type == directory.JSON && v.Kind == api.String {
			v.Kind, v.Value = api.JSON, v.Raw // a JSON string is a JSON value like any other
		}
		total += len(v.Value)
		if reason := w.checkValue(item, f, v); reason != "" {
			faults = append(faults, cloakroom.Fault{Item: at, Field: f.Name, Reason: reason})
		}
	}
	for _, rule := range []struct {
		broken bool
		reason string
	}{
		{len(item.Fields) == 0, reasonNoFields},
		{total > cloakroom.MaxSubjectBytes, reasonTooLarge},
		{item.HasTTL && item.TTL < time.Second, reasonTTLPast},
		{item.HasTTL && item.TTL > api.MaxTTL, reasonTTLCentury},
		{!ttlsUsed(item), reasonTTLAlone},
	} {
		if rule.broken {
			faults = append(faults, cloakroom.Fault{Item: at, Reason: rule.reason})
		}
	}
	return named, faults
}

// checkValue returns what is wrong with a value, or "".
func (w *write) checkValue(item *api.Deposit, f *field, v *api.FieldValue) string {
	switch {
	case v.Kind == api.Null && w.action == policy.Update:
		return ""
	case v.Kind == api.Null:
		return reasonNull
	case f.Type != directory.JSON && v.Kind != api.String:
		return reasonKind
	}
	if reason := checkTTL(item, f); reason != "" {
		return reason
	}
	if err := record.Check(f.typ, v.Value, f.MaxBytes); err != nil {
		return err.Error()
	}
	return ""
}

// checkTTL returns what is wrong with the time to live of a field, or "". One
// for all fields that is wrong by itself is a fault of the item.
func checkTTL(item *api.Deposit, f *field) string {
	ttl, has := item.TTLOf(f.Name)
	switch {
	case !has:
		return ""
	case !item.HasTTL && ttl < time.Second:
		return reasonTTLPast
	case f.MaxRetention > 0 && ttl > f.MaxRetention:
		return reasonTTLLong
	case !item.HasTTL && ttl > api.MaxTTL:
		return reasonTTLCentury
	}
	return ""
}

// ttlsUsed reports whether every field with a ttl of its own has a value.
func ttlsUsed(item *api.Deposit) bool {
	for i := range item.TTLs {
		named := func(v api.FieldValue) bool {
			return v.Kind != api.Null && bytes.Equal(v.Name, item.TTLs[i].Name)
		}
		if !slices.ContainsFunc(item.Fields, named) {
			return false
		}
	}
	return true
}
