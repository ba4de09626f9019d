package peer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files and the seeds anew")

func sampleHellos() map[string]hello {
	id := [16]byte{0xc1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	me, you := life{0xaa, 15: 0xab}, life{0xbb, 15: 0xbc}
	return map[string]hello{
		"calls":  {kind: calls, cluster: id, life: me, boot: 0x0102030405060708, node: "node-1", wantLife: you, wantNode: "node-2"},
		"guest":  {kind: guest, cluster: id, life: me, node: "node-1"},
		"late":   {kind: overdue, cluster: id, life: me, node: "node-1"},
		"gossip": {kind: gossip, cluster: id, life: me, node: "node-1", wantLife: you, wantNode: "node-2"},
		"raft": {kind: raft, cluster: id, life: me, node: "node-1", wantNode: "node-2",
			want: end{group: 7, generation: 3, replica: "r-7-b"}, source: "r-7-a"},
	}
}

func sampleAnswers() map[string]answer {
	you := life{0xbb, 15: 0xbc}
	return map[string]answer{
		"calls":   {life: you, boot: 0x0807060504030201, node: "node-2"},
		"raft":    {life: you, node: "node-2", end: end{group: 7, generation: 3, replica: "r-7-b"}},
		"refused": {refusal: refusedReplica},
	}
}

type sampleFrame struct {
	frame
	body string
}

func sampleFrames() map[string]sampleFrame {
	return map[string]sampleFrame{
		"request": {frame{id: 0x01020304, kind: request, detail: 4, millis: 2500, size: 4}, "body"},
		"void":    {frame{id: 0x01020304, kind: void, detail: 4, millis: 2500, size: 4}, "body"},
		"reply":   {frame{id: 0x01020304, kind: reply, size: 2}, "ok"},
		"failure": {frame{id: 9, kind: failure, detail: uint8(firstSentinel)}, ""},
		"ping":    {frame{kind: ping}, ""},
		"pong":    {frame{kind: pong}, ""},
	}
}

// sampleBytes are all samples, encoded, by the name of their golden file.
func sampleBytes() map[string][]byte {
	out := map[string][]byte{}
	for name, h := range sampleHellos() {
		out["hello-"+name] = h.append(nil)
	}
	for name, a := range sampleAnswers() {
		out["answer-"+name] = a.append(nil)
	}
	for name, f := range sampleFrames() {
		out["frame-"+name] = f.append(nil, []byte(f.body))
	}
	return out
}

// What travels is format 1, byte by byte. Numbers of refusals and outcomes
// travel too.
func TestGoldenBytes(t *testing.T) {
	for name, b := range sampleBytes() {
		path := filepath.Join("testdata", name+".golden")
		got := hex.Dump(b)
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%swant\n%s", name, got, want)
		}
	}
	if admitted != 0 || refusedMalformed != 1 || refusedCluster != 2 || refusedNode != 3 || refusedLife != 4 ||
		refusedIdentity != 5 || refusedMember != 6 || refusedReplica != 7 || refusedGroup != 8 ||
		refusedGeneration != 9 || refusedSource != 10 || refusedCrowd != 11 || refusedKey != 12 {
		t.Error("a refusal has got another number")
	}
}

func TestHelloAndAnswerComeBack(t *testing.T) {
	for name, want := range sampleHellos() {
		if got, err := readHello(bytes.NewReader(want.append(nil))); err != nil || *got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for name, want := range sampleAnswers() {
		if got, err := readAnswer(bytes.NewReader(want.append(nil))); err != nil || *got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestHandshakeRefusesWhatItDoesNotKnow(t *testing.T) {
	encoded := func(change func(*hello)) []byte {
		h := sampleHellos()["raft"]
		change(&h)
		return h.append(nil)
	}
	base := encoded(func(*hello) {})
	at := func(offset int, b byte) []byte {
		out := bytes.Clone(base)
		out[offset] = b
		return out
	}
	for name, bad := range map[string][]byte{
		"magic":                 at(0, 'X'),
		"an answer":             (&answer{refusal: refusedLife}).append(nil),
		"format":                at(4, 2),
		"kind 0":                at(5, 0),
		"kind 6":                at(5, 6),
		"another kind":          at(5, byte(calls)),
		"length, too large":     at(6, 0xff),
		"length, too small":     at(7, base[7]-1),
		"no caller":             encoded(func(h *hello) { h.node = "" }),
		"caller's name":         encoded(func(h *hello) { h.node = "no de" }),
		"wanted name":           encoded(func(h *hello) { h.wantNode = "no/de" }),
		"nobody wanted":         encoded(func(h *hello) { h.wantNode = "" }),
		"calls to nobody":       encoded(func(h *hello) { *h = hello{kind: calls, node: "a"} }),
		"gossip with nobody":    encoded(func(h *hello) { *h = hello{kind: gossip, node: "a"} }),
		"no destination":        encoded(func(h *hello) { h.want.replica = "" }),
		"no source":             encoded(func(h *hello) { h.source = "" }),
		"destination, control":  encoded(func(h *hello) { h.want.replica = "a\nb" }),
		"destination, too long": encoded(func(h *hello) { h.want.replica = strings.Repeat("r", maxReplica+1) }),
		"node, too long":        encoded(func(h *hello) { h.node = strings.Repeat("n", 65) }),
	} {
		if got, err := readHello(bytes.NewReader(bad)); !errors.Is(err, errShake) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	extended := endShake(append(bytes.Clone(base), 0), 0)
	if _, err := readHello(bytes.NewReader(extended)); !errors.Is(err, errShake) {
		t.Error("a byte more:", err)
	}
	for n := range base {
		if _, err := readHello(bytes.NewReader(base[:n])); err == nil {
			t.Error("accepted", n, "bytes of", len(base))
		}
	}
	for _, code := range []refusal{refusedTLS, refusals, 255} {
		if _, err := readAnswer(bytes.NewReader((&answer{refusal: code}).append(nil))); !errors.Is(err, errShake) {
			t.Errorf("refusal %d: %v", code, err)
		}
	}
}

func TestFrameRefusesWhatDoesNotFit(t *testing.T) {
	for name, f := range map[string]frame{
		"kind 0":             {id: 1},
		"kind 7":             {id: 1, kind: void + 1},
		"request, no time":   {id: 1, kind: request},
		"request, too long":  {id: 1, kind: request, millis: 60_001},
		"reply with outcome": {id: 1, kind: reply, detail: 1},
		"reply with time":    {id: 1, kind: reply, millis: 1},
		"failure, outcome 0": {id: 1, kind: failure},
		"failure, unknown":   {id: 1, kind: failure, detail: uint8(firstSentinel) + uint8(len(sentinels))},
		"failure with time":  {id: 1, kind: failure, detail: 1, millis: 1},
		"ping with id":       {id: 1, kind: ping},
		"pong with method":   {kind: pong, detail: 1},
	} {
		head := f.append(nil, nil)
		for _, fromDialler := range []bool{true, false} {
			if got, err := parseFrame(head, fromDialler); err == nil {
				t.Errorf("%s: accepted as %+v", name, got)
			}
		}
	}
	for name, f := range sampleFrames() {
		head := f.append(nil, []byte(f.body))[:frameHead]
		if _, err := parseFrame(head, !f.kind.fromDialler()); err == nil {
			t.Errorf("%s: accepted from the wrong side", name)
		}
		for _, length := range []byte{0xff, 0} { // beyond MaxMessage, below the head
			bad := bytes.Clone(head)
			bad[0], bad[3] = length, 9
			if _, err := parseFrame(bad, f.kind.fromDialler()); err == nil {
				t.Errorf("%s: accepted length %x", name, bad[:4])
			}
		}
	}
	ping := frame{kind: ping}
	if _, err := parseFrame(ping.append(nil, []byte("x"))[:frameHead], true); err == nil {
		t.Error("accepted a ping with a body")
	}
}

// A head that claims the largest body takes no memory until the body is there.
func TestAClaimTakesNoMemory(t *testing.T) {
	body, err := readBody(strings.NewReader("short"), nil, MaxMessage)
	if err == nil || cap(body) > 512<<10 {
		t.Errorf("%d bytes for a claim, %v", cap(body), err)
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 80_000)
	if body, err = readBody(bytes.NewReader(long), nil, len(long)); err != nil || !bytes.Equal(body, long) {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
}

// seed writes and adds the samples of one kind.
func seed(f *testing.F, prefix string) {
	for name, b := range sampleBytes() {
		if strings.HasPrefix(name, prefix) {
			f.Add(b)
			if *rewrite {
				path := filepath.Join("testdata", "fuzz", f.Name(), name)
				os.MkdirAll(filepath.Dir(path), 0o755)
				os.WriteFile(path, []byte("go test fuzz v1\n[]byte("+quoted(b)+")\n"), 0o644)
			}
		}
	}
}

func quoted(b []byte) string {
	out := `"`
	for _, c := range b {
		out += `\x` + hex.EncodeToString([]byte{c})
	}
	return out + `"`
}

// What readHello accepts is what append writes, and it reads no byte more.
func FuzzHello(f *testing.F) {
	seed(f, "hello-")
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := readHello(r)
		if err != nil {
			return
		}
		if got, read := h.append(nil), b[:len(b)-r.Len()]; !bytes.Equal(got, read) {
			t.Errorf("re-encoded %x, want %x", got, read)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	seed(f, "answer-")
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := readAnswer(r)
		if err != nil {
			return
		}
		if got, read := a.append(nil), b[:len(b)-r.Len()]; !bytes.Equal(got, read) {
			t.Errorf("re-encoded %x, want %x", got, read)
		}
	})
}

func FuzzFrame(f *testing.F) {
	seed(f, "frame-")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameHead {
			return
		}
		for _, fromDialler := range []bool{true, false} {
			got, err := parseFrame(b[:frameHead], fromDialler)
			if err != nil {
				continue
			}
			if got.size < 0 || got.size > MaxMessage || got.kind.fromDialler() != fromDialler {
				t.Errorf("accepted %+v", got)
			}
			if size := min(got.size, 1<<10); size == got.size {
				if again := got.append(nil, make([]byte, size))[:frameHead]; !bytes.Equal(again, b[:frameHead]) {
					t.Errorf("re-encoded %x, want %x", again, b[:frameHead])
				}
			}
		}
	})
}
