package directory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"cloakroom"
)

// SnapshotFormat is the number of the snapshot encoding:
//
//	offset  bytes  what
//	0       1      format, 1
//	1       …      one JSON object: index, hash of the applied prefix, view
const SnapshotFormat = 1

// MaxSnapshotBytes bounds what [Machine.Restore] reads.
const MaxSnapshotBytes = 64 << 20

// Image is the directory at one index, ready to be written.
type Image struct {
	Index uint64 `json:"index"`
	Hash  Digest `json:"hash"`
	View  *View  `json:"view"`
}

// Snapshot returns the present state. It copies nothing: views are immutable.
func (m *Machine) Snapshot() *Image {
	return &Image{Index: m.index, Hash: m.hash, View: m.Load()}
}

// WriteTo writes the image; the same state gives the same bytes.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	body, err := json.Marshal(i)
	if err != nil {
		return 0, fmt.Errorf("write directory snapshot: %w", err)
	}
	n, err := w.Write(append([]byte{SnapshotFormat}, body...))
	if err != nil {
		return int64(n), fmt.Errorf("write directory snapshot: %w", err)
	}
	return int64(n), nil
}

// Release does nothing: an image holds nothing that must be given back.
func (i *Image) Release() {}

// Restore replaces the state by what [Image.WriteTo] wrote. On an error the
// state is as it was.
func (m *Machine) Restore(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxSnapshotBytes+1))
	if err != nil {
		return fmt.Errorf("restore directory: %w", err)
	}
	switch {
	case len(data) < 2 || len(data) > MaxSnapshotBytes:
		return fmt.Errorf("restore directory: %w", cloakroom.ErrMalformed)
	case data[0] != SnapshotFormat:
		return fmt.Errorf("restore directory: unknown format %d", data[0])
	}
	var image Image
	if err := json.Unmarshal(data[1:], &image); err != nil {
		return fmt.Errorf("restore directory: %w", cloakroom.ErrMalformed)
	}
	if fault := image.View.fault(); fault != "" {
		return fmt.Errorf("restore directory: %s: %w", fault, cloakroom.ErrMalformed)
	}
	var again bytes.Buffer
	if _, err := image.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), data) {
		return fmt.Errorf("restore directory: not canonical: %w", cloakroom.ErrMalformed)
	}
	image.View.Schema = newSchema(image.View.Schema.Epoch, image.View.Schema.Fields)
	m.index, m.hash = image.Index, image.Hash
	m.view.Store(image.View.indexed())
	return nil
}

// residentsFault returns what is wrong with the nodes and groups of a decoded
// view, or "".
func (v *View) residentsFault() string {
	if v.Epoch == 0 {
		if len(v.Nodes)+len(v.Directory.Replicas)+len(v.Shards) > 0 {
			return "nodes or groups before the first command"
		}
		return ""
	}
	if fault := nodesFault(v.Nodes); fault != "" {
		return fault
	}
	return v.groupsFault()
}

// fault returns what is wrong with a decoded view, or "". It looks at what
// look-ups rely on.
func (v *View) fault() string {
	if v == nil || v.Schema == nil || v.SlotTable == nil {
		return "incomplete"
	}
	for i := range v.Schema.Fields {
		if i > 0 && v.Schema.Fields[i].Number <= v.Schema.Fields[i-1].Number {
			return "fields out of order"
		}
	}
	for i, p := range v.Principals {
		if p == nil || i > 0 && p.Name <= v.Principals[i-1].Name {
			return "principals out of order"
		}
	}
	for i, d := range v.Domains {
		if int(d.Number) != i {
			return "domains out of order"
		}
	}
	if fault := v.residentsFault(); fault != "" {
		return fault
	}
	for _, shard := range v.SlotTable {
		if int(shard) >= max(len(v.Shards), 1) {
			return "a slot names an unknown shard"
		}
	}
	return ""
}
