package bench

import (
	"math"
	"strings"
	"testing"

	"cloakroom/internal/people"
)

func testRun(t *testing.T) *run {
	t.Helper()
	crowd, err := people.New(people.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &run{Config: Config{People: 5000, Seed: 1}, crowd: crowd}
}

func TestDraws(t *testing.T) {
	r := testRun(t)
	for _, zipf := range []bool{false, true} {
		counts := map[uint32]int{}
		total := 0
		for _, who := range r.draws(100, zipf) {
			seen := map[uint32]bool{}
			for _, one := range who {
				if int(one) >= r.People || seen[one] {
					t.Fatalf("zipf %v: drew %d, twice or out of range", zipf, one)
				}
				seen[one] = true
				counts[one]++
				total++
			}
		}
		if total < planIDs {
			t.Errorf("zipf %v: %d ids", zipf, total)
		}
		share := float64(counts[0]) / float64(total)
		if even := 1.0 / float64(r.People); zipf && share < 10*even || !zipf && share > 3*even {
			t.Errorf("zipf %v: person 0 has a share of %v", zipf, share)
		}
	}
	if got := len(r.draws(1000, true)[0]); got != 1000 {
		t.Errorf("got %d people in a batch of 1000", got)
	}
}

func TestRedisRequests(t *testing.T) {
	p := &redisProtocol{crowd: testRun(t).crowd}
	id := p.crowd.ID(3).String()
	if got, want := string(p.resolve(nil, []uint32{3})), "*2\r\n$3\r\nGET\r\n$36\r\n"+id+"\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(p.resolve(nil, []uint32{3, 4})); !strings.HasPrefix(got, "*3\r\n$4\r\nMGET\r\n$36\r\n"+id) {
		t.Errorf("got %q", got)
	}
	if got := string(p.deposit(nil, 3, 2)); !strings.HasPrefix(got, "*5\r\n$4\r\nMSET\r\n$36\r\n"+id) {
		t.Errorf("got %q", got)
	}
	reply := p.appendName(nil, 3)
	if err := p.checkResolve([]uint32{3}, reply); err != nil {
		t.Error(err)
	}
	if err := p.checkResolve([]uint32{4}, reply); err == nil {
		t.Error("took the name of another person")
	}
}

func TestCheckResolve(t *testing.T) {
	p := &cloakroomProtocol{crowd: testRun(t).crowd}
	subject := func(i uint64, name string) string {
		return `"` + p.crowd.ID(i).String() + `":{"display_name":"` + name + `"}`
	}
	name := func(i uint64) string { return string(p.crowd.AppendName(nil, i)) }
	for _, tc := range []struct {
		label, body string
		ok          bool
	}{
		{"in order", `{"subjects":{` + subject(1, name(1)) + `,` + subject(2, name(2)) + `},"missing":[]}`, true},
		{"out of order", `{"subjects":{` + subject(2, name(2)) + `,` + subject(1, name(1)) + `},"missing":[]}`, true},
		{"spaced", `{ "subjects" : {` + strings.ReplaceAll(subject(2, name(2)), ":{", ": {") + `,` + subject(1, name(1)) + `}}`, true},
		{"swapped", `{"subjects":{` + subject(1, name(2)) + `,` + subject(2, name(1)) + `},"missing":[]}`, false},
		{"one missing", `{"subjects":{` + subject(1, name(1)) + `},"missing":["` + p.crowd.ID(2).String() + `"]}`, false},
		{"one left out", `{"subjects":{` + subject(1, name(1)) + `},"missing":[]}`, false},
		{"one unavailable", `{"subjects":{` + subject(1, name(1)) + `},"unavailable":["` + p.crowd.ID(2).String() + `"]}`, false},
		{"no JSON", `<html>`, false},
	} {
		if err := p.checkResolve([]uint32{1, 2}, []byte("HTTP/1.1 200 OK\r\n\r\n"+tc.body)); (err == nil) != tc.ok {
			t.Errorf("%s: got %v", tc.label, err)
		}
	}
}

func TestCheckDeposit(t *testing.T) {
	p := &cloakroomProtocol{}
	two := "HTTP/1.1 200 OK\r\n\r\n" + `{"results":[{"id":"a","version":"1"},{"id":"b","version":"2"}]}`
	refused := "HTTP/1.1 200 OK\r\n\r\n" + `{"results":[{"id":"a","version":"1"},{"id":"b","problem":{}}]}`
	if err := p.checkDeposit(2, []byte(two)); err != nil {
		t.Error(err)
	}
	if p.checkDeposit(3, []byte(two)) == nil || p.checkDeposit(0, []byte(refused)) == nil {
		t.Error("took a deposit that was not whole")
	}
}

func TestServerQuantile(t *testing.T) {
	text := `# HELP cloakroom_request_seconds time
cloakroom_request_seconds_bucket{route="resolve",le="0.001"} 10
cloakroom_request_seconds_bucket{route="resolve",le="0.002"} 20
cloakroom_request_seconds_bucket{route="resolve",le="+Inf"} 20
cloakroom_request_seconds_bucket{route="get",le="0.001"} 0
cloakroom_request_seconds_bucket{route="get",le="0.002"} 10
cloakroom_request_seconds_bucket{route="get",le="+Inf"} 10
cloakroom_request_seconds_sum{route="get"} 1
another_bucket{le="0.001"} 99
`
	b := parseBuckets(strings.NewReader(text), requestSeconds)
	if len(b) != 3 || b[0.002] != 30 || b[math.Inf(1)] != 30 {
		t.Fatalf("got %v", b)
	}
	if got := b.quantileSince(nil, 0.5); math.Abs(got-1250) > 1 {
		t.Errorf("got a median of %v µs, want 1250", got)
	}
	if got := b.quantileSince(b, 0.5); got != 0 {
		t.Errorf("got a median of %v µs of nothing", got)
	}
	if got := buckets(nil).quantileSince(nil, 0.99); got != 0 {
		t.Errorf("got %v from no histogram", got)
	}
}

func TestSpreadAndThousands(t *testing.T) {
	if got := *spreadOf([]float64{4, 1, 3, 2}); got != (Spread{2.5, 1, 4}) {
		t.Errorf("got %v", got)
	}
	if got := *spreadOf([]float64{3, 1, 2}); got != (Spread{2, 1, 3}) {
		t.Errorf("got %v", got)
	}
	for f, want := range map[float64]string{0: "0", 999.4: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := thousands(f); got != want {
			t.Errorf("%v: got %s, want %s", f, got, want)
		}
	}
}
