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
	n, ok := plainResults([]byte(plain), func(i int, d Deposited) { got = append(got, fmt.Sprintf("%d %s %s", i, d.ID, d.Version)) })
	want := []string{"0 00000000-0000-4000-8000-000000000001 00000000000000aa", "1 00000000-0000-4000-8000-000000000002 00000000000000bb"}
	if n != 2 || !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %d %v %q", n, ok, got)
	}
}

// What the short way accepts, the long way must read alike.
func FuzzPlainResults(f *testing.F) {
	f.Add(plain)
	f.Add(plain + "\n")
	f.Add(`{"results":[]}`)
	f.Add(plain[:len(plain)-3])
	f.Fuzz(func(t *testing.T, body string) {
		var short []Deposited
		n, ok := plainResults([]byte(body), func(_ int, d Deposited) { short = append(short, d) })
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
