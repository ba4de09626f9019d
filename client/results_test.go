package client

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const plain = `{"results":[{"id":"00000000-0000-4000-8000-000000000001","version":"00000000000000aa"},{"id":"00000000-0000-4000-8000-000000000002","version":"00000000000000bb"}]}`

func TestPlainResults(t *testing.T) {
	var got []string
	ok := plainResults([]byte(plain), 2, func(i int, d Deposited) { got = append(got, fmt.Sprintf("%d %s %s", i, d.ID, d.Version)) })
	want := []string{"0 00000000-0000-4000-8000-000000000001 00000000000000aa", "1 00000000-0000-4000-8000-000000000002 00000000000000bb"}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v %q", ok, got)
	}
}

// What the short way accepts, the long way must read alike.
func FuzzPlainResults(f *testing.F) {
	f.Add(plain, 2)
	f.Add(plain+"\n", 2)
	f.Add(`{"results":[]}`, 0)
	f.Add(plain[:len(plain)-3], 1)
	f.Fuzz(func(t *testing.T, body string, n int) {
		if n < 0 || n > 1<<20 {
			t.Skip()
		}
		var short []Deposited
		ok := plainResults([]byte(body), n, func(_ int, d Deposited) { short = append(short, d) })
		if !ok {
			if short != nil {
				t.Fatal("results handed over and then disowned")
			}
			return
		}
		var long struct {
			Results []struct{ ID, Version string }
		}
		if err := json.Unmarshal([]byte(body), &long); err != nil || len(long.Results) != n {
			t.Fatalf("short way reads %d results, long way %d, %v", n, len(long.Results), err)
		}
		for i, r := range long.Results {
			if short[i].ID.String() != strings.ToLower(r.ID) || short[i].Version != r.Version {
				t.Fatalf("result %d differs", i)
			}
		}
	})
}
