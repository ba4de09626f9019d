package directory

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"cloakroom"
)

// SnapshotFormat is the number of the snapshot encoding:
//
//	offset  bytes  what
//	0       1      format, 1
//	1       4      n, bytes of the JSON object, big-endian
//	5       n      one JSON object: index, hash of the applied prefix, view
//	5+n     4      rows of the ledger of erasures, big-endian
//	9+n     38 …   the rows, in the order they came; see row
const SnapshotFormat = 1

// MaxSnapshotBytes bounds what [Machine.Restore] reads.
const MaxSnapshotBytes = 64 << 20

// Image is the directory at one index, ready to be written.
type Image struct {
	Index uint64 `json:"index"`
	Hash  Digest `json:"hash"`
	View  *View  `json:"view"`

	ledger frozen
}

// Snapshot returns the present state. It copies nothing but the list of the
// ledger's chunks: views are immutable, and so are chunks that an image holds.
func (m *Machine) Snapshot() *Image {
	return &Image{Index: m.index, Hash: m.hash, View: m.Load(), ledger: m.ledger.freeze()}
}

// WriteTo writes the image; the same state gives the same bytes.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	data, err := i.appendHead([]byte{SnapshotFormat})
	if err != nil {
		return 0, fmt.Errorf("write directory snapshot: %w", err)
	}
	n, err := w.Write(data)
	if err != nil {
		return int64(n), fmt.Errorf("write directory snapshot: %w", err)
	}
	rows, err := i.ledger.writeTo(w)
	if err != nil {
		return int64(n) + rows, fmt.Errorf("write directory snapshot: %w", err)
	}
	return int64(n) + rows, nil
}

// appendHead appends the JSON object and its length to dst.
func (i *Image) appendHead(dst []byte) ([]byte, error) {
	body, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(body))), body...), nil
}

// Release does nothing: an image holds nothing that must be given back.
func (i *Image) Release() {}

// Restore replaces the state by what [Image.WriteTo] wrote. On an error the
// state is as it was.
func (m *Machine) Restore(r io.Reader) error {
	in := bufio.NewReader(io.LimitReader(r, MaxSnapshotBytes))
	image, err := readHead(in)
	if err != nil {
		return fmt.Errorf("restore directory: %w", err)
	}
	erasures, err := readLedger(in, image.View)
	if err != nil {
		return fmt.Errorf("restore directory: %w", err)
	}
	m.index, m.hash = image.Index, image.Hash
	m.ledger.replace(erasures)
	m.view.Store(image.View.indexed())
	return nil
}

// readHead reads format and JSON object of a snapshot and checks the view.
func readHead(r io.Reader) (*Image, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, cloakroom.ErrMalformed
	}
	size := binary.BigEndian.Uint32(head[1:])
	switch {
	case head[0] != SnapshotFormat:
		return nil, fmt.Errorf("unknown format %d", head[0])
	case size > MaxSnapshotBytes:
		return nil, cloakroom.ErrTooLarge
	}
	// Read as it comes: a length that lies costs no memory.
	body, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil || len(body) != int(size) {
		return nil, fmt.Errorf("cut short: %w", cloakroom.ErrMalformed)
	}
	image := new(Image)
	if err := json.Unmarshal(body, image); err != nil {
		return nil, cloakroom.ErrMalformed
	}
	if fault := image.View.fault(); fault != "" {
		return nil, fmt.Errorf("%s: %w", fault, cloakroom.ErrMalformed)
	}
	again, err := image.appendHead(nil)
	if err != nil || !bytes.Equal(again[4:], body) {
		return nil, fmt.Errorf("not canonical: %w", cloakroom.ErrMalformed)
	}
	image.View.Schema = newSchema(image.View.Schema.Epoch, image.View.Schema.Fields)
	return image, nil
}

// residentsFault returns what is wrong with the nodes and groups of a decoded
// view, or "".
func (v *View) residentsFault() string {
	if v.Epoch == 0 {
		if len(v.Nodes)+len(v.Directory.Replicas)+len(v.Shards)+len(v.JoinTokens) > 0 {
			return "nodes or groups before the first command"
		}
		return ""
	}
	if fault := nodesFault(v.Nodes); fault != "" {
		return fault
	}
	if fault := tokensFault(v.JoinTokens); fault != "" {
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
	if fault := v.requestsFault(); fault != "" {
		return fault
	}
	for i, d := range v.Domains {
		if int(d.Number) != i {
			return "domains out of order"
		}
	}
	if fault := v.residentsFault(); fault != "" {
		return fault
	}
	if v.Recovery != nil && v.Recovery.fault() != "" {
		return v.Recovery.fault()
	}
	for _, shard := range v.SlotTable {
		if int(shard) >= max(len(v.Shards), 1) {
			return "a slot names an unknown shard"
		}
	}
	return ""
}
