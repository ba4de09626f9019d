package node_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// A page that is read while subjects are made shows each as it was made or not
// at all, never as one without fields: it was none at any time.
func TestAPageShowsNoSubjectHalfMade(t *testing.T) {
	h := open(t, nil)
	ids := make([]string, 400)
	for i := range ids {
		ids[i] = fmt.Sprintf("0b8c3a52-6f0e-4f7e-9d8b-%012x", i)
	}
	var made atomic.Int64
	ended := make(chan struct{})
	go func() { // ends after so many subjects
		defer close(ended)
		for _, id := range ids {
			if a := h.call("PUT", "/v1/subjects/"+id, ada); a.status != 201 {
				t.Errorf("put: status %d", a.status)
				return
			}
			made.Add(1)
		}
	}()
	for !t.Failed() {
		select {
		case <-ended:
			return
		default:
		}
		next := min(int(made.Load()), len(ids)-1)
		var p page
		h.call("POST", "/v1/resolve", `{"ids":["`+strings.Join(ids[next:min(next+3, len(ids))], `","`)+`"],"fields":["display_name"]}`).
			want(t, 200, "").decode(t, &p)
		for id, fields := range p.Subjects {
			if len(fields) == 0 {
				t.Errorf("%s is shown without its fields, after %d were made", id, made.Load())
			}
		}
	}
	<-ended
}
