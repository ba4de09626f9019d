package node

import (
	"slices"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/state"
	"cloakroom/node/events"
)

func testFeed(t testing.TB) *events.Feed {
	t.Helper()
	f, err := events.New(events.Config{Fresh: func(cloakroom.ShardID) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What a state tells comes out of the ring as what it was; what is new stays
// out, and kinds that a later version may know as well.
func TestTheWatcherTellsKindsApart(t *testing.T) {
	feed := testFeed(t)
	w := &watcher{feed: feed, shard: 3}
	token := func(n byte) cloakroom.Token { return cloakroom.Token{n} }
	w.Applied(7, []cluster.Change{
		{Subject: token(1), Domain: 5, Kind: state.Changed}, {Subject: token(2), Kind: state.Created}, {Subject: token(3), Kind: state.Erased},
		{Subject: token(4), Kind: state.Expired}, {Subject: token(5), Kind: 99}, {Subject: token(6)},
	})
	w.Applied(8, []cluster.Change{{Subject: token(7), Kind: state.Created}})
	got, reach, ok := feed.Since(3, 0, 100, nil)
	want := []events.Change{
		{Index: 7, Token: token(1), Domain: 5, Kind: events.Changed}, {Index: 7, Token: token(3), Kind: events.Erased},
		{Index: 7, Token: token(4), Kind: events.Expired},
	}
	if !ok || reach != 7 || !slices.Equal(got, want) {
		t.Errorf("the ring holds %v up to %d, %v; want %v", got, reach, ok, want)
	}
	w.Restored(20)
	if _, reach, ok := feed.Since(3, 7, 100, nil); ok || reach != 20 {
		t.Errorf("after a snapshot: up to %d, %v", reach, ok)
	}
}

// An answer of another node is taken in whole or not at all.
func TestAnswersAboutChangesAreChecked(t *testing.T) {
	part := cluster.ChangesPart{Reach: 9, Complete: true, Changes: []cluster.LoggedChange{{Index: 9, Kind: uint8(events.Erased)}}}
	if m, ok := mirrorOf(&part, 5*time.Second); !ok || m.Asked != 5*time.Second || len(m.Changes) != 1 || m.Changes[0].Kind != events.Erased {
		t.Errorf("got %+v, %v", m, ok)
	}
	more := part
	more.More = true
	if m, ok := mirrorOf(&more, 5*time.Second); !ok || m.Asked != 0 {
		t.Errorf("complete although there is more: %+v, %v", m, ok)
	}
	stale := part
	stale.Complete = false
	if m, ok := mirrorOf(&stale, 5*time.Second); !ok || m.Asked != 0 {
		t.Errorf("complete although its replica is not fresh: %+v, %v", m, ok)
	}
	part.Changes[0].Kind = uint8(state.Created)
	if _, ok := mirrorOf(&part, 0); ok {
		t.Error("a kind that is not told was taken")
	}
}

// BenchmarkWatcher is what a change costs the state machine beside its own
// work, for an import of new subjects and for changes.
func BenchmarkWatcher(b *testing.B) {
	for name, kind := range map[string]state.ChangeKind{"new": state.Created, "changed": state.Changed} {
		b.Run(name, func(b *testing.B) {
			w := &watcher{feed: testFeed(b)}
			list := make([]cluster.Change, 1000)
			for i := range list {
				list[i] = cluster.Change{Subject: cloakroom.Token{byte(i), byte(i >> 8)}, Kind: kind}
			}
			index := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				index++
				w.Applied(index, list)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/change")
		})
	}
}
