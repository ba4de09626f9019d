package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden file anew")

// message is what every type of this room can do.
type message interface {
	Append(dst []byte) []byte
	Decode(b []byte) error
}

// confirmRequest fits the walker to message.
type confirmRequest struct {
	Questions []struct {
		Group   uint32
		Replica string
		Term    uint64
	}
}

func (m *confirmRequest) Append(dst []byte) []byte {
	from := len(dst)
	dst = BeginConfirm(dst)
	for _, q := range m.Questions {
		dst = AppendQuestion(dst, q.Group, q.Replica, q.Term)
	}
	EndConfirm(dst[from:], len(m.Questions))
	return dst
}

func (m *confirmRequest) Decode(b []byte) error {
	walk, err := OpenConfirm(b)
	if err != nil {
		return err
	}
	m.Questions = m.Questions[:0]
	left := walk.Len()
	for q, ok := walk.Next(); ok; q, ok = walk.Next() {
		if left--; walk.Len() != left {
			return fmt.Errorf("Len() = %d, want %d", walk.Len(), left)
		}
		m.Questions = append(m.Questions, struct {
			Group   uint32
			Replica string
			Term    uint64
		}{q.Group, string(q.Replica), q.Term})
	}
	return nil
}

// kinds makes an empty message of each type, in the order of the golden file.
var kinds = []func() message{
	func() message { return &JoinRequest{} },
	func() message { return &JoinReply{} },
	func() message { return &ProposeRequest{} },
	func() message { return &ProposeReply{} },
	func() message { return &ChangeRequest{} },
	func() message { return &ChangeReply{} },
	func() message { return &ReadRequest{} },
	func() message { return &ReadReply{} },
	func() message { return &confirmRequest{} },
	func() message { return &ConfirmReply{} },
	func() message { return &ProgressRequest{} },
	func() message { return &ProgressReply{} },
	func() message { return &PingRequest{} },
	func() message { return &PingReply{} },
	func() message { return &ChangesRequest{} },
	func() message { return &ChangesReply{} },
	func() message { return &LeaseRequest{} },
	func() message { return &LeaseReply{} },
	func() message { return &SettleRequest{} },
	func() message { return &SettleReply{} },
	func() message { return &AwaitRequest{} },
	func() message { return &AwaitReply{} },
	func() message { return &EnterRequest{} },
	func() message { return &EnterReply{} },
	func() message { return &KeysRequest{} },
	func() message { return &KeysReply{} },
	func() message { return &RenewRequest{} },
	func() message { return &RenewReply{} },
	func() message { return &ViewLeaseRequest{} },
	func() message { return &ViewLeaseReply{} },
	func() message { return &ViewAwaitRequest{} },
	func() message { return &ViewSettleRequest{} },
	func() message { return &GiveLeadRequest{} },
	func() message { return &GiveLeadReply{} },
}

func token(first byte) (t cloakroom.Token) {
	for i := range t {
		t[i] = first + byte(i)
	}
	return t
}

// items encodes n small commands as a proposal carries them.
func items(n int) []byte {
	var b []byte
	for i := range n {
		b = command.AppendItem(b, &command.Command{Kind: command.Time, Value: uint64(i + 1)})
	}
	return b
}

// samples holds every message, with every optional part there once and absent
// once.
func samples() []message {
	var questions confirmRequest
	for i := range 3 {
		questions.Questions = append(questions.Questions, struct {
			Group   uint32
			Replica string
			Term    uint64
		}{uint32(i), strings.Repeat("r", i), uint64(i) << 40})
	}
	return []message{
		&JoinRequest{Node: "n2", Life: "0011", Address: "host:7000", Zone: "z", Replica: Identity{"r2", "v2"}, API: "host:8200", Boot: 3, Proof: [32]byte{7}, Kept: true},
		&JoinRequest{},
		&JoinReply{Code: OK, Generation: 1, Epoch: 7, Members: []Member{{"r1", "v1", "n1", "00", "host:1"}, {ID: "r2"}}},
		&JoinReply{Code: Refused, Reason: RolledBack, Boot: 9, Text: "two nodes with one name"},
		&ProposeRequest{Group: 3, Generation: 2, Count: 2, Items: items(2)},
		&ProposeRequest{Group: 1, Count: 1, Items: items(1)},
		&ProposeReply{Code: OK, Index: 77, Results: []command.Result{
			{Code: command.Created, Version: cloakroom.Version{1, 2}, Expiry: 9, Domain: 3}, {Code: command.NotFound}}},
		&ProposeReply{Code: NotLeader, Hint: "r3"},
		&ProposeReply{Code: Unknown},
		&ChangeRequest{Data: []byte("change")},
		&ChangeReply{Code: OK, Index: 5, Result: []byte("result")},
		&ChangeReply{Code: Overloaded},
		&ReadRequest{Level: cloakroom.Linearizable, Parts: []ReadPart{
			{Group: 1, Generation: 1, Index: 99, Tokens: []cloakroom.Token{token(1), token(2)}},
			{Group: 9, Generation: 3, Term: 12, Replica: []byte("r9")}}},
		&ReadRequest{},
		&ReadReply{Time: 1_800_000_000_123, Schema: 7, Buf: []byte("..one.two"), Parts: []ReadAnswer{
			{Code: OK, Spans: []command.Span{{Off: 6, Len: 3}, {}}}, {Code: NotLeader, Hint: "r1"}, {Code: OK},
			{Code: OK, Spans: []command.Span{{Off: 2, Len: 3}}}}},
		&ReadReply{Parts: []ReadAnswer{{Code: Starting, Hint: "r2"}, {Code: OK, Spans: []command.Span{{}}}}},
		&ReadReply{},
		&questions,
		&confirmRequest{},
		&ConfirmReply{Yes: []bool{true, false, true}, Now: 1_800_000_000_123, Free: 5 << 30, Limit: 6 << 30},
		&ConfirmReply{Now: -1},
		&ConfirmReply{Now: 1, Leads: []uint32{0, 3, 64}},
		&ProgressRequest{Group: 7, Replica: "r7"},
		&ProgressReply{Code: OK, Term: 1, Last: 2, Commit: 3, Applied: 4, Voter: true},
		&PingRequest{},
		&PingReply{Node: "n1", Life: "00"},
		&ChangesRequest{Parts: []ChangesPart{{Group: 1, Generation: 2, After: 99}, {Group: 3}}},
		&ChangesReply{Parts: []ChangesAnswer{
			{Code: OK, Complete: true, Reach: 9, Changes: []SubjectChange{{Index: 7, Token: token(1), Domain: 3, Kind: 2}, {Index: 7, Token: token(2), Kind: 1}}},
			{Code: OK, More: true, Reach: 1, Changes: []SubjectChange{{Index: 1, Token: token(3), Kind: 3}}},
			{Code: OK, Gap: true, Reach: 1 << 40}, {Code: Unavailable}}},
		&ChangesReply{},
		&LeaseRequest{Parts: []LeasePart{
			{Group: 1, Generation: 1, Term: 7, Applied: 98, Replica: []byte("r1")}, {Group: 2, Generation: 3, Replica: []byte("r2")}}},
		&LeaseRequest{},
		&LeaseReply{Length: 3 * time.Second, Parts: []LeaseAnswer{{Code: OK, Index: 99}, {Code: NotLeader, Hint: "r3"}, {Code: Unavailable}}},
		&LeaseReply{},
		&ViewLeaseRequest{Term: 7, Replica: []byte("r2")},
		&ViewLeaseRequest{},
		&ViewLeaseReply{Code: OK, Length: 30 * time.Second, Epoch: 99},
		&ViewLeaseReply{Code: NotLeader, Hint: "r3"},
		&ViewAwaitRequest{Epoch: 99, Life: "0011"},
		&ViewSettleRequest{Epoch: 99},
		&SettleRequest{Group: 1, Generation: 2, Index: 3},
		&SettleReply{Code: OK},
		&SettleReply{Code: NotLeader, Hint: "r3"},
		&AwaitRequest{Group: 1, Generation: 2, Index: 3, Replica: "r1"},
		&AwaitReply{Code: OK},
		&GiveLeadRequest{Group: 3, Generation: 1, To: "r2"},
		&GiveLeadReply{Code: OK},
		&GiveLeadReply{Code: NotLeader},
		&EnterRequest{Secret: [32]byte{1, 31: 2}, Node: "n2", Address: "host:8202", Zone: "b", API: "host:8200", RecoveryMode: "none",
			Shards: 16, Replication: 3, Certificate: []byte("request")},
		&EnterRequest{},
		&EnterReply{Verdict: Granted, Cluster: [16]byte{3}, Pending: true, Certificate: []byte("cert"), Root: []byte("root"), Peers: []string{"a:1", "b:2"}},
		&EnterReply{Verdict: UsedToken, Text: "used for n3 before"},
		&KeysRequest{Boot: 7, SealEpoch: 2, Key: bytes.Repeat([]byte{9}, SealKeyBytes), Address: "host:8202"},
		&KeysReply{Verdict: Granted, Version: 4, SealEpoch: 2, Hash: [32]byte{5}, Encapsulated: bytes.Repeat([]byte{6}, EncapsulationBytes), Sealed: []byte("sealed")},
		&KeysReply{Verdict: Unadmitted, Text: "admit it"},
		&RenewRequest{PublicKey: []byte("key")},
		&RenewReply{Verdict: Granted, Certificate: []byte("cert"), Root: []byte("root")},
		&RenewReply{Verdict: NotNow, Text: "sealed"},
	}
}

// empty makes an empty message of m's type.
func empty(m message) message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
}

func TestGolden(t *testing.T) {
	var text strings.Builder
	for _, m := range samples() {
		fmt.Fprintf(&text, "%s %s\n", reflect.TypeOf(m).Elem().Name(), hex.EncodeToString(m.Append(nil)))
	}
	path := filepath.Join("testdata", "messages-1.golden")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		writeSeeds(t)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("the format changed:\n got %s\nwant %s", text.String(), want)
	}
}

// writeSeeds writes every sample as a seed of FuzzDecode.
func writeSeeds(t *testing.T) {
	t.Helper()
	count := map[string]int{}
	for _, m := range samples() {
		for kind := range kinds {
			if reflect.TypeOf(kinds[kind]()) != reflect.TypeOf(m) {
				continue
			}
			name := strings.ToLower(reflect.TypeOf(m).Elem().Name())
			count[name]++
			text := fmt.Sprintf("go test fuzz v1\nbyte(%q)\n[]byte(%q)\n", rune(kind), m.Append(nil))
			path := filepath.Join("testdata", "fuzz", "FuzzDecode", fmt.Sprintf("%s-%d", name, count[name]))
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestMessagesSurviveEncoding(t *testing.T) {
	for i, m := range samples() {
		b := append([]byte("before"), m.Append(nil)...)
		got := empty(m)
		if err := got.Decode(b[len("before"):]); err != nil {
			t.Errorf("sample %d, %T: %v", i, m, err)
			continue
		}
		if again := got.Append([]byte("before")); !bytes.Equal(again, b) {
			t.Errorf("sample %d, %T: re-encoded %x, want %x", i, m, again, b)
		}
	}
}

// A message that was used for something larger shows nothing of it.
func TestDecodingIntoAUsedMessage(t *testing.T) {
	used := map[reflect.Type]message{}
	for i, m := range append(append(samples(), samples()...), reversed()...) {
		kind := reflect.TypeOf(m)
		if used[kind] == nil {
			used[kind] = empty(m)
		}
		b, fresh := m.Append(nil), empty(m)
		if used[kind].Decode(b) != nil || fresh.Decode(b) != nil {
			t.Fatalf("sample %d, %T: malformed", i, m)
		}
		if got, want := fmt.Sprint(used[kind]), fmt.Sprint(fresh); got != want {
			t.Errorf("sample %d, %T: decoded %s, want %s", i, m, got, want)
		}
	}
}

// reversed is samples, the last first.
func reversed() []message {
	all := samples()
	slices.Reverse(all)
	return all
}

func TestEveryCutAndEveryExtraByteIsRefused(t *testing.T) {
	for i, m := range samples() {
		b := m.Append(nil)
		switch m.(type) {
		case *ChangeRequest:
			continue // its last part is as long as the message
		case *ChangeReply:
			if b[1] == byte(OK) {
				continue
			}
		}
		for n := range b {
			if err := empty(m).Decode(b[:n:n]); !errors.Is(err, cloakroom.ErrMalformed) {
				t.Errorf("sample %d, %T cut to %d of %d: %v, want ErrMalformed", i, m, n, len(b), err)
			}
		}
		if err := empty(m).Decode(append(b, 0)); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("sample %d, %T with a byte more: %v, want ErrMalformed", i, m, err)
		}
		b[0] = 2
		if err := empty(m).Decode(b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("sample %d, %T in format 2: %v, want ErrMalformed", i, m, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	patch := func(m message, at int, b ...byte) []byte {
		e := m.Append(nil)
		copy(e[at:], b)
		return e
	}
	two := &ReadRequest{Parts: []ReadPart{{Group: 5}, {Group: 5}}}
	long := (&PingReply{Node: strings.Repeat("n", MaxStringBytes)}).Append(nil)
	long = append(binary.BigEndian.AppendUint16([]byte{format}, MaxStringBytes+1), append([]byte{'n'}, long[3:]...)...)
	record := binary.BigEndian.AppendUint32(nil, command.MaxRecordBytes+1)
	tooLong := &ReadReply{Buf: make([]byte, command.MaxRecordBytes+1), Parts: []ReadAnswer{{Code: OK, Spans: []command.Span{{Len: 1}}}}}
	var many confirmRequest
	many.Questions = append(many.Questions, make([]struct {
		Group   uint32
		Replica string
		Term    uint64
	}, MaxQuestions+1)...)
	for name, c := range map[string]struct {
		into message
		b    []byte
	}{
		"code 0":                {&ChangeReply{}, patch(&ChangeReply{Code: Unknown}, 1, 0)},
		"code 11":               {&ChangeReply{}, patch(&ChangeReply{Code: Unknown}, 1, 11)},
		"level 2":               {&ReadRequest{}, patch(&ReadRequest{}, 1, 2)},
		"a group twice":         {&ReadRequest{}, two.Append(nil)},
		"too many parts":        {&ReadRequest{}, (&ReadRequest{Parts: make([]ReadPart, MaxGroups+1)}).Append(nil)},
		"a term of nobody":      {&ReadRequest{}, (&ReadRequest{Parts: []ReadPart{{Term: 1}}}).Append(nil)},
		"too many tokens":       {&ReadRequest{}, (&ReadRequest{Parts: []ReadPart{{Tokens: make([]cloakroom.Token, MaxReadTokens)}, {Group: 1, Tokens: make([]cloakroom.Token, 1)}}}).Append(nil)},
		"too many spans":        {&ReadReply{}, (&ReadReply{Parts: []ReadAnswer{{Code: OK, Spans: make([]command.Span, MaxReadTokens+1)}}}).Append(nil)},
		"a record too long":     {&ReadReply{}, append(patch(tooLong, 22, record...), make([]byte, command.MaxRecordBytes)...)},
		"records cut short":     {&ReadReply{}, patch(&ReadReply{Buf: []byte("xy"), Parts: []ReadAnswer{{Code: OK, Spans: []command.Span{{Len: 2}}}}}, 22, 0, 0, 0, 3)},
		"negative free":         {&ConfirmReply{}, (&ConfirmReply{Free: -1}).Append(nil)},
		"negative limit":        {&ConfirmReply{}, (&ConfirmReply{Limit: -1}).Append(nil)},
		"answer 2":              {&ConfirmReply{}, patch(&ConfirmReply{Yes: []bool{true}}, 29, 2)},
		"too many questions":    {&confirmRequest{}, many.Append(nil)},
		"a result without code": {&ProposeReply{}, (&ProposeReply{Code: OK, Results: make([]command.Result, 1)}).Append(nil)},
		"a result unknown":      {&ProposeReply{}, (&ProposeReply{Code: OK, Results: []command.Result{{Code: command.TooManyLinks + 1}}}).Append(nil)},
		"too many items":        {&ProposeRequest{}, (&ProposeRequest{Count: MaxItems + 1, Items: make([]byte, 4*(MaxItems+1))}).Append(nil)},
		"no items":              {&ProposeRequest{}, (&ProposeRequest{Group: 1, Generation: 1}).Append(nil)},
		"fewer items":           {&ProposeRequest{}, (&ProposeRequest{Count: 1, Items: items(2)}).Append(nil)},
		"more items":            {&ProposeRequest{}, (&ProposeRequest{Count: 3, Items: items(2)}).Append(nil)},
		"too many members":      {&JoinReply{}, (&JoinReply{Code: OK, Members: make([]Member, MaxMembers+1)}).Append(nil)},
		"a string too long":     {&PingReply{}, long},
		"a lease for nobody":    {&LeaseRequest{}, (&LeaseRequest{Parts: []LeasePart{{Group: 1}}}).Append(nil)},
		"a lease twice": {&LeaseRequest{}, (&LeaseRequest{Parts: []LeasePart{
			{Group: 1, Replica: []byte("r")}, {Group: 1, Replica: []byte("s")}}}).Append(nil)},
		"too many leases": {&LeaseRequest{}, (&LeaseRequest{Parts: make([]LeasePart, MaxGroups+1)}).Append(nil)},
		"an await's code": {&AwaitReply{}, patch(&AwaitReply{Code: OK}, 1, 0)},
	} {
		if err := c.into.Decode(c.b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// The largest of everything is still taken.
func TestLimitsAreTaken(t *testing.T) {
	for _, m := range []message{
		&ReadRequest{Parts: []ReadPart{{Tokens: make([]cloakroom.Token, MaxReadTokens)}}},
		&ReadReply{Parts: []ReadAnswer{{Code: OK, Spans: make([]command.Span, MaxReadTokens)}}},
		&ReadReply{Buf: make([]byte, command.MaxRecordBytes), Parts: []ReadAnswer{{Code: OK, Spans: []command.Span{{Len: command.MaxRecordBytes}}}}},
		&ProposeRequest{Count: MaxItems, Items: items(MaxItems)},
		&PingReply{Node: strings.Repeat("n", MaxStringBytes)},
		&ChangesReply{Parts: []ChangesAnswer{{Code: OK, Changes: make([]SubjectChange, MaxChanges)}}},
	} {
		if err := empty(m).Decode(m.Append(nil)); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
	cut := &PingReply{Node: strings.Repeat("n", 1<<16)}
	var got PingReply
	if err := got.Decode(cut.Append(nil)); err != nil || len(got.Node) != MaxStringBytes {
		t.Errorf("a string of 64 KiB came as %d bytes, %v, want %d", len(got.Node), err, MaxStringBytes)
	}
}

// A count costs its sender as many bytes as room is made for.
func TestHostileCountsAreChecked(t *testing.T) {
	var before, after runtime.MemStats
	counts := []uint32{MaxItems, MaxReadTokens, 1<<32 - 1}
	for i, m := range samples() {
		b := m.Append(nil)
		into, hostile := empty(m), bytes.Clone(b)
		runtime.ReadMemStats(&before)
		for at := 1; at+4 <= len(b); at++ {
			for _, count := range counts {
				copy(hostile, b)
				binary.BigEndian.PutUint32(hostile[at:], count)
				_ = into.Decode(hostile) // only what it costs
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("sample %d, %T: %d bytes allocated for messages of %d", i, m, n, len(b))
		}
	}
}

func TestUsedMessagesDoNotAllocate(t *testing.T) {
	tokens := make([]cloakroom.Token, 100)
	spans := make([]command.Span, 100)
	for i := range spans {
		spans[i] = command.Span{Off: uint32(50 * i), Len: 50}
	}
	read := &ReadRequest{}
	reply := &ReadReply{Buf: make([]byte, 5000)}
	for i := range 16 {
		n := 100 * i / 16
		m := 100 * (i + 1) / 16
		read.Parts = append(read.Parts, ReadPart{Group: uint32(i + 1), Generation: 1, Term: 5, Replica: make([]byte, 34), Tokens: tokens[n:m]})
		reply.Parts = append(reply.Parts, ReadAnswer{Code: OK, Spans: spans[n:m]})
	}
	results := make([]command.Result, 100)
	for i := range results {
		results[i].Code = command.Created
	}
	for _, m := range []message{
		read, reply, &ConfirmReply{Yes: make([]bool, 17)},
		&ProposeRequest{Count: 100, Items: items(100)}, &ProposeReply{Code: OK, Results: results},
	} {
		b, into := m.Append(nil), empty(m)
		if n := testing.AllocsPerRun(10, func() {
			if into.Decode(b) != nil {
				t.Fatal("malformed")
			}
			b = m.Append(b[:0])
		}); n != 0 {
			t.Errorf("%T: %v allocations, want 0", m, n)
		}
	}
}

func TestConfirmRequestsDoNotAllocate(t *testing.T) {
	var b []byte
	replica := strings.Repeat("r", 36)
	if n := testing.AllocsPerRun(10, func() {
		b = BeginConfirm(b[:0])
		for group := range uint32(17) {
			b = AppendQuestion(b, group, replica, 9)
		}
		EndConfirm(b, 17)
		walk, err := OpenConfirm(b)
		if err != nil {
			t.Fatal(err)
		}
		for q, ok := walk.Next(); ok; q, ok = walk.Next() {
			if string(q.Replica) != replica || q.Term != 9 {
				t.Fatal("wrong question")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestItemsHaveEnds(t *testing.T) {
	m := ProposeRequest{Count: 3, Items: items(3)}
	var got ProposeRequest
	if err := got.Decode(m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	n := len(items(1))
	if ends, want := got.Ends([]int{7}), []int{7, n, 2 * n, 3 * n}; !reflect.DeepEqual(ends, want) {
		t.Errorf("Ends = %v, want %v", ends, want)
	}
}

func TestDecodedBytesAliasTheMessage(t *testing.T) {
	propose := (&ProposeRequest{Count: 1, Items: items(1)}).Append(nil)
	var p ProposeRequest
	read := (&ReadReply{Buf: []byte("abc"), Parts: []ReadAnswer{{Code: OK, Spans: []command.Span{{Len: 3}}}}}).Append(nil)
	var r ReadReply
	if p.Decode(propose) != nil || r.Decode(read) != nil {
		t.Fatal("malformed")
	}
	if &p.Items[0] != &propose[13] || &r.Buf[0] != &read[len(read)-3] {
		t.Error("a decoded message holds a copy, want an alias")
	}
	if cap(r.Buf) != 3 || cap(r.Parts[0].Spans) != 1 {
		t.Errorf("caps %d and %d: an append would overwrite what follows", cap(r.Buf), cap(r.Parts[0].Spans))
	}
}

func TestReplyLimit(t *testing.T) {
	third := uint32(MaxReadBytes / 3)
	big := command.Span{Len: third}
	m := ReadReply{Parts: []ReadAnswer{
		{Code: OK, Spans: []command.Span{big, {}, big}}, {Code: Unavailable},
		{Code: OK, Spans: []command.Span{big, {}, {Len: 2}, {}}}, {Code: OK, Spans: []command.Span{{}}},
	}}
	m.Limit()
	for i, want := range []int{3, 0, 2, 0} {
		if got := len(m.Parts[i].Spans); got != want {
			t.Errorf("part %d answers %d tokens, want %d", i, got, want)
		}
	}
}

func TestCodesAndErrors(t *testing.T) {
	for c := OK; c <= Refused; c++ {
		if c.String() == "" || c.String() == "invalid" {
			t.Errorf("code %d has no name", c)
		}
		if got := CodeOf(c.Err()); got != c {
			t.Errorf("CodeOf(%s.Err()) = %s", c, got)
		}
		if got := CodeOf(fmt.Errorf("wrapped: %w", c.Err())); c != OK && got != c {
			t.Errorf("CodeOf(wrapped %s) = %s", c, got)
		}
	}
	for m := Join; m <= Ping; m++ {
		if m.String() == "" || m.String() == "unknown" {
			t.Errorf("method %d has no name", m)
		}
	}
	both := fmt.Errorf("%w: applied in part: %w", cloakroom.ErrOverloaded, cloakroom.ErrOutcomeUnknown)
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, OK}, {errors.New("disk"), Unknown}, {both, Unknown}, {cloakroom.ErrDenied, Refused},
		{fmt.Errorf("x: %w", cloakroom.ErrUnavailable), Unavailable}, {ErrNotLeader, NotLeader},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %s, want %s", c.err, got, c.want)
		}
	}
	if !errors.Is(NotLeader.Err(), cloakroom.ErrUnavailable) || !errors.Is(Code(0).Err(), cloakroom.ErrOutcomeUnknown) ||
		Code(0).String() != "invalid" || Method(0).String() != "unknown" {
		t.Error("what is no code must promise nothing")
	}
}

func TestReadsSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m ReadReply
		m.Buf = rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "buf")
		var want [][]byte
		for range rapid.IntRange(0, 5).Draw(t, "parts") {
			p := ReadAnswer{Code: Code(rapid.IntRange(1, 3).Draw(t, "code"))}
			if p.Code != OK {
				p.Hint = rapid.StringN(0, 5, 20).Draw(t, "hint")
			}
			for range rapid.IntRange(0, 4).Draw(t, "spans") {
				off := rapid.IntRange(0, len(m.Buf)).Draw(t, "off")
				n := rapid.IntRange(0, len(m.Buf)-off).Draw(t, "len")
				if p.Code == OK {
					p.Spans = append(p.Spans, command.Span{Off: uint32(off), Len: uint32(n)})
					want = append(want, m.Buf[off:off+n])
				}
			}
			m.Parts = append(m.Parts, p)
		}
		var got ReadReply
		if err := got.Decode(m.Append(nil)); err != nil {
			t.Fatal(err)
		}
		var records [][]byte
		for i, p := range got.Parts {
			if p.Code != m.Parts[i].Code || p.Hint != m.Parts[i].Hint {
				t.Fatalf("part %d = %+v, want %+v", i, p, m.Parts[i])
			}
			for _, span := range p.Spans {
				if span.Len == 0 && span.Off != 0 {
					t.Fatalf("no record at %d, want it at 0", span.Off)
				}
				records = append(records, got.Buf[span.Off:span.Off+span.Len])
			}
		}
		for i := range want {
			if !bytes.Equal(records[i], want[i]) {
				t.Fatalf("record %d = %x, want %x", i, records[i], want[i])
			}
		}
	})
}

// What a decoder accepts is exactly what Append writes: one meaning, one form.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		for kind := range kinds {
			if reflect.TypeOf(kinds[kind]()) == reflect.TypeOf(m) {
				f.Add(byte(kind), m.Append(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		m := kinds[int(kind)%len(kinds)]()
		if m.Decode(b) != nil {
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%T: re-encoded %x, want %x", m, got, b)
		}
		if p, ok := m.(*ProposeRequest); ok && len(p.Ends(nil)) != p.Count {
			t.Errorf("%d ends of %d items", len(p.Ends(nil)), p.Count)
		}
	})
}

var sink []byte

func BenchmarkRead100(b *testing.B) {
	tokens, spans := make([]cloakroom.Token, 100), make([]command.Span, 100)
	for i := range spans {
		spans[i] = command.Span{Off: uint32(50 * i), Len: 50}
	}
	request, reply := &ReadRequest{}, &ReadReply{Buf: make([]byte, 5000)}
	for i := range 16 {
		n, m := 100*i/16, 100*(i+1)/16
		request.Parts = append(request.Parts, ReadPart{Group: uint32(i + 1), Tokens: tokens[n:m]})
		reply.Parts = append(reply.Parts, ReadAnswer{Code: OK, Spans: spans[n:m]})
	}
	for name, m := range map[string]message{"request": request, "reply": reply} {
		b.Run(name, func(b *testing.B) {
			into := empty(m)
			b.ReportAllocs()
			for b.Loop() {
				sink = m.Append(sink[:0])
				if err := into.Decode(sink); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
