package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloakroom"
)

func TestDecodeRefusesEntry(t *testing.T) {
	patch := func(m message, at int, b byte) []byte {
		e := m.Append(nil)
		e[at] = b
		return e
	}
	for name, c := range map[string]struct {
		into message
		b    []byte
	}{
		"verdict 0":           {&EnterReply{}, patch(&EnterReply{Verdict: NotNow}, 1, 0)},
		"verdict 13":          {&KeysReply{}, patch(&KeysReply{Verdict: NotNow}, 1, 13)},
		"pending 2":           {&EnterReply{}, patch(&EnterReply{Verdict: Granted}, 20, 2)},
		"a request too large": {&EnterRequest{}, (&EnterRequest{Certificate: make([]byte, MaxDER+1)}).Append(nil)},
		"a certificate too":   {&EnterReply{}, (&EnterReply{Verdict: Granted, Certificate: make([]byte, MaxDER+1)}).Append(nil)},
		"too many peers":      {&EnterReply{}, (&EnterReply{Verdict: Granted, Peers: make([]string, MaxPeers+1)}).Append(nil)},
		"a key too large":     {&RenewRequest{}, (&RenewRequest{PublicKey: make([]byte, MaxDER+1)}).Append(nil)},
		"keys too large":      {&KeysReply{}, (&KeysReply{Verdict: Granted, Encapsulated: make([]byte, EncapsulationBytes), Sealed: make([]byte, MaxSealedKeys+1)}).Append(nil)},
	} {
		if err := c.into.Decode(c.b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func TestVerdictsHaveNumbersAndNames(t *testing.T) {
	all := Verdicts()
	if len(all) != 12 || all[0] != 1 || Unreadable != 12 || UsedToken != 9 {
		t.Error("a verdict has got another number:", all)
	}
	seen := map[string]bool{"": true}
	for _, v := range all {
		if seen[v.String()] {
			t.Errorf("verdict %d has no name of its own", v)
		}
		seen[v.String()] = true
	}
	if Granted.Final() || NotNow.Final() || Unadmitted.Final() || !Stranger.Final() {
		t.Error("asking again helps, or does not")
	}
}

// The secret of a join token is in no text that a request can become.
func TestASecretIsNotPrinted(t *testing.T) {
	m := EnterRequest{Node: "n2"}
	copy(m.Secret[:], strings.Repeat("S", SecretBytes))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, text := range []string{fmt.Sprintf(verb, m), fmt.Sprintf(verb, &m)} {
			if strings.Contains(text, "SSSS") || strings.Contains(text, "83, 83") || strings.Contains(text, "83 83") || strings.Contains(text, "0x53, 0x53") {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}
