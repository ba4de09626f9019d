package wire

import (
	"errors"
	"testing"

	"cloakroom"
)

func TestDecodeRefusesChanges(t *testing.T) {
	reply := func(a ChangesAnswer) []byte {
		a.Code = OK
		return (&ChangesReply{Parts: []ChangesAnswer{a}}).Append(nil)
	}
	flag := reply(ChangesAnswer{})
	flag[6] = changesMore << 1
	for name, c := range map[string]struct {
		into message
		b    []byte
	}{
		"a group twice":      {&ChangesRequest{}, (&ChangesRequest{Parts: []ChangesPart{{Group: 5}, {Group: 5}}}).Append(nil)},
		"the wrong order":    {&ChangesReply{}, reply(ChangesAnswer{Reach: 9, Changes: []SubjectChange{{Index: 2}, {Index: 1}}})},
		"behind their reach": {&ChangesReply{}, reply(ChangesAnswer{Reach: 1, Changes: []SubjectChange{{Index: 2}}})},
		"in spite of a gap":  {&ChangesReply{}, reply(ChangesAnswer{Gap: true, Reach: 9, Changes: []SubjectChange{{Index: 2}}})},
		"a flag unknown":     {&ChangesReply{}, flag},
		"too many":           {&ChangesReply{}, reply(ChangesAnswer{Changes: make([]SubjectChange, MaxChanges+1)})},
	} {
		if err := c.into.Decode(c.b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}
