package command

import (
	"bytes"
	"testing"
)

// What Decode accepts is exactly what Append writes: one meaning, one form.
func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Command
		if Decode(b, &c) != nil {
			return
		}
		if got := c.Append(nil); !bytes.Equal(got, b) || c.Size() != len(b) {
			t.Errorf("re-encoded %x (size %d), want %x", got, c.Size(), b)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(AppendBatch(nil, samples()))
	f.Add(AppendBatch(nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := OpenBatch(b)
		if err != nil {
			return
		}
		got, items := BeginBatch(nil), batch.Len()
		for item, ok := batch.Next(); ok; item, ok = batch.Next() {
			got = AppendEncoded(got, item)
		}
		EndBatch(got, items)
		if !bytes.Equal(got, b) {
			t.Errorf("re-encoded %x, want %x", got, b)
		}
	})
}

func FuzzDecodeSubject(f *testing.F) {
	for _, s := range []SubjectRecord{{}, {Erased: true, Expiry: 5}, {Domain: 2, KeyTag: KeyTag{1}, Expiry: 9}} {
		f.Add(s.Append(nil))
	}
	for _, l := range samples()[5].Links {
		s := SubjectRecord{Links: Links(nil).AppendMerged(nil, []Link{l})}
		f.Add(s.Append(nil))
		f.Add(l.AppendStored(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSubject(b)
		if sealed, handle := DecodeHandle(b); handle == nil {
			l := Link{Kind: Handle, Record: sealed}
			if got := l.AppendStored(nil); !bytes.Equal(got, b) || err == nil {
				t.Errorf("a handle %x, again %x, is a subject: %v", b, got, err)
			}
		}
		if err != nil {
			return
		}
		if got := s.Append(nil); !bytes.Equal(got, b) || s.Size() != len(b) {
			t.Errorf("re-encoded %x (size %d), want %x", got, s.Size(), b)
		}
	})
}
