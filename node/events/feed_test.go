package events

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"cloakroom"
)

const shards = 3

func newFeed(t testing.TB, changes int) *Feed {
	t.Helper()
	f, err := New(Config{Bytes: changes * changeBytes * shards, Shards: shards, Fresh: func(cloakroom.ShardID) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// entry makes n changes of the entry with that index.
func entry(index uint64, n int) []Change {
	list := make([]Change, n)
	for i := range list {
		list[i] = Change{Token: tokenOf(index, i), Kind: Changed}
	}
	return list
}

func tokenOf(index uint64, i int) cloakroom.Token {
	return cloakroom.Token{byte(index >> 16), byte(index >> 8), byte(index), byte(i >> 8), byte(i)}
}

func everything(cloakroom.Domain) bool { return true }

// drain reads until there is no more, size changes at a time.
func drain(t testing.TB, s *Subscription, size int) (all []Change, ok bool) {
	t.Helper()
	dst := make([]Change, size)
	for range 1 << 20 {
		n, more, ok := s.Read(dst, everything)
		if !ok {
			return all, false
		}
		all = append(all, dst[:n]...)
		if !more {
			return all, true
		}
	}
	t.Fatal("reading does not end")
	return nil, false
}

func indexes(list []Change) (at []uint64) {
	for _, c := range list {
		at = append(at, c.Index)
	}
	return at
}

func TestConfigReportsAllFaults(t *testing.T) {
	_, err := New(Config{Bytes: -1, Shards: 65})
	if err == nil {
		t.Fatal("accepted")
	}
	if got, want := err.Error(), "events: Bytes is negative\nevents: Shards is out of range\nevents: Fresh is missing"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The memory bound counts on it.
func TestAChangeTakesWhatIsSaid(t *testing.T) {
	if got := unsafe.Sizeof(Change{}); got != changeBytes {
		t.Errorf("a change takes %d bytes, want %d", got, changeBytes)
	}
	f := newFeed(t, minRing)
	for i := range uint64(10 * minRing) {
		f.Applied(0, i+1, entry(i+1, 3))
	}
	if got := cap(f.rings[0].changes); got > minRing {
		t.Errorf("a ring of %d changes has room for %d", minRing, got)
	}
}

func TestASubscriberIsToldOfWhatComesLater(t *testing.T) {
	f := newFeed(t, minRing)
	f.Applied(1, 5, entry(5, 1))
	s, resumed := f.Subscribe(shards, nil)
	defer s.Close()
	if resumed {
		t.Error("resumed from nowhere")
	}
	f.Applied(1, 6, entry(6, 2))
	f.Applied(0, 2, entry(2, 1))
	all, ok := drain(t, s, 100)
	if got, want := indexes(all), []uint64{2, 6, 6}; !ok || !slices.Equal(got, want) {
		t.Errorf("told %v, %v; want %v", got, ok, want)
	}
	if all, ok := drain(t, s, 100); len(all) != 0 || !ok {
		t.Errorf("told again: %v, %v", indexes(all), ok)
	}
	if got, want := s.Marks(nil), []uint64{2, 6, 0}; !slices.Equal(got, want) {
		t.Errorf("marks %v, want %v", got, want)
	}
}

func TestOnlyWantedDomainsAreTold(t *testing.T) {
	f := newFeed(t, minRing)
	s, _ := f.Subscribe(shards, nil)
	defer s.Close()
	f.Applied(0, 1, []Change{{Domain: 1, Kind: Changed}, {Domain: 2, Kind: Erased}, {Domain: 1, Kind: Expired}})
	dst := make([]Change, 10)
	n, more, ok := s.Read(dst, func(d cloakroom.Domain) bool { return d == 2 })
	if n != 1 || more || !ok || dst[0].Domain != 2 || dst[0].Kind != Erased {
		t.Errorf("told %v, %v, %v", dst[:n], more, ok)
	}
	if got := s.Marks(nil)[0]; got != 1 {
		t.Errorf("mark %d, want 1: what is not wanted is passed all the same", got)
	}
}

// A cursor between the changes of one entry has them told again: an entry is
// told whole or it is not told.
func TestAMarkNeverSkipsPartOfAnEntry(t *testing.T) {
	f := newFeed(t, minRing)
	s, _ := f.Subscribe(shards, nil)
	defer s.Close()
	f.Applied(0, 3, entry(3, 2))
	f.Applied(0, 7, entry(7, 5))
	dst := make([]Change, 4)
	if n, more, _ := s.Read(dst, everything); n != 4 || !more {
		t.Fatalf("read %d, %v", n, more)
	}
	if got := s.Marks(nil)[0]; got != 3 {
		t.Fatalf("mark %d in the middle of entry 7, want 3", got)
	}
	again, resumed := f.Subscribe(shards, s.Marks(nil))
	defer again.Close()
	all, _ := drain(t, again, 100)
	if got, want := indexes(all), []uint64{7, 7, 7, 7, 7}; !resumed || !slices.Equal(got, want) {
		t.Errorf("resumed %v with %v, want %v", resumed, got, want)
	}
}

func TestAFullRingIsAGapForWhoHasNotRead(t *testing.T) {
	f := newFeed(t, minRing)
	slow, _ := f.Subscribe(shards, nil)
	defer slow.Close()
	quick, _ := f.Subscribe(shards, nil)
	defer quick.Close()
	for i := range uint64(minRing + 1) {
		f.Applied(2, i+1, entry(i+1, 1))
		if all, ok := drain(t, quick, 10); !ok || len(all) != 1 {
			t.Fatalf("the quick one was told %d, %v", len(all), ok)
		}
	}
	if _, ok := drain(t, slow, 10); ok {
		t.Error("the slow one was not told of its gap")
	}
	f.Applied(2, 9999, entry(9999, 1))
	if all, ok := drain(t, slow, 10); !ok || len(all) != 1 {
		t.Errorf("after the gap it was told %v, %v; want the present", indexes(all), ok)
	}
	if got := f.Status().Gaps; got != 1 {
		t.Errorf("%d gaps counted, want 1", got)
	}
	if _, resumed := f.Subscribe(shards, []uint64{0, 0, 0}); resumed {
		t.Error("resumed from before the ring")
	}
	if _, resumed := f.Subscribe(shards, []uint64{0, 0, 3}); !resumed {
		t.Error("not resumed although nothing is missing")
	}
}

func TestAnEntryLargerThanTheRingIsAGap(t *testing.T) {
	f := newFeed(t, minRing)
	s, _ := f.Subscribe(shards, nil)
	defer s.Close()
	f.Applied(0, 4, entry(4, minRing+1))
	if _, ok := drain(t, s, 10); ok {
		t.Error("no gap")
	}
	if _, resumed := f.Subscribe(shards, []uint64{4, 0, 0}); !resumed {
		t.Error("not resumed behind it")
	}
}

// A node that lags behind another goes on from its cursor, and tells nothing
// twice.
func TestACursorOfANodeThatIsAhead(t *testing.T) {
	f := newFeed(t, minRing)
	f.Applied(0, 1, entry(1, 1))
	s, resumed := f.Subscribe(shards, []uint64{3, 0, 0})
	defer s.Close()
	for i := uint64(2); i <= 5; i++ {
		f.Applied(0, i, entry(i, 2))
		if i == 2 {
			if all, _ := drain(t, s, 1); len(all) != 0 || s.Marks(nil)[0] != 3 {
				t.Errorf("told %v, mark %d", indexes(all), s.Marks(nil)[0])
			}
		}
	}
	all, ok := drain(t, s, 1)
	if got, want := indexes(all), []uint64{4, 4, 5, 5}; !resumed || !ok || !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// A replica that starts anew applies its log once more, or takes a snapshot:
// what the ring holds stays good as long as there is no hole.
func TestAReplicaThatStartsAnew(t *testing.T) {
	f := newFeed(t, minRing)
	s, _ := f.Subscribe(shards, nil)
	defer s.Close()
	for i := uint64(1); i <= 5; i++ {
		f.Applied(0, i, entry(i, 1))
	}
	f.Restored(0, 4)
	for i := uint64(5); i <= 6; i++ {
		f.Applied(0, i, entry(i, 1))
	}
	all, ok := drain(t, s, 10)
	if got, want := indexes(all), []uint64{1, 2, 3, 4, 5, 6}; !ok || !slices.Equal(got, want) {
		t.Errorf("told %v, %v; want %v", got, ok, want)
	}
	f.Restored(0, 9)
	if _, ok := drain(t, s, 10); ok {
		t.Error("a jump is no gap")
	}
	if _, resumed := f.Subscribe(shards, []uint64{8, 0, 0}); resumed {
		t.Error("resumed from before the jump")
	}
	if _, resumed := f.Subscribe(shards, []uint64{9, 0, 0}); !resumed {
		t.Error("not resumed from the jump")
	}
}

// A shard without a replica here is told of by another node.
func TestAShardThatIsElsewhere(t *testing.T) {
	there, here := newFeed(t, minRing), newFeed(t, minRing)
	for i := uint64(1); i <= 20; i++ {
		there.Applied(1, i, entry(i, 3))
	}
	s, resumed := here.Subscribe(shards, []uint64{0, 10, 0})
	defer s.Close()
	if !resumed {
		t.Error("a ring that knows nothing does not begin where it is told to")
	}
	for range 20 {
		list, reach, ok := there.Since(1, here.Reach(1), 4, nil)
		here.Mirror(1, Mirror{Changes: list, Reach: reach, Gap: !ok})
	}
	all, ok := drain(t, s, 5)
	if len(all) != 30 || !ok || all[0].Index != 11 {
		t.Fatalf("told %d from %v, %v; want 30 from 11", len(all), indexes(all)[0], ok)
	}
	for i := uint64(21); i < 22+minRing; i++ {
		there.Applied(1, i, entry(i, 1))
	}
	list, reach, ok := there.Since(1, here.Reach(1), 4, nil)
	if ok {
		t.Fatalf("since %d: %d changes, want a gap", here.Reach(1), len(list))
	}
	here.Mirror(1, Mirror{Reach: reach, Gap: true})
	if _, ok := drain(t, s, 5); ok {
		t.Error("a gap there is none here")
	}
	if got, want := here.Reach(1), there.Reach(1); got != want {
		t.Errorf("it goes on from %d, want %d", got, want)
	}
}

func TestSinceKeepsEntriesWhole(t *testing.T) {
	f := newFeed(t, minRing)
	for i := uint64(1); i <= 4; i++ {
		f.Applied(0, i, entry(i, 3))
	}
	for _, c := range []struct {
		after uint64
		limit int
		n     int
		reach uint64
	}{
		{after: 0, limit: 100, n: 12, reach: 4},
		{after: 0, limit: 7, n: 6, reach: 2},
		{after: 0, limit: 6, n: 6, reach: 2},
		{after: 1, limit: 2, n: 3, reach: 2}, // one entry at least
		{after: 4, limit: 2, n: 0, reach: 4},
		{after: 9, limit: 2, n: 0, reach: 9}, // known elsewhere
	} {
		list, reach, ok := f.Since(0, c.after, c.limit, nil)
		if len(list) != c.n || reach != c.reach || !ok {
			t.Errorf("since %d, at most %d: %d changes to %d, %v; want %d to %d", c.after, c.limit, len(list), reach, ok, c.n, c.reach)
		}
	}
}

func TestCompleteIsAsOldAsTheOldestShard(t *testing.T) {
	fresh := [shards]bool{true, true, true}
	f, err := New(Config{Fresh: func(s cloakroom.ShardID) bool { return fresh[s] }})
	if err != nil {
		t.Fatal(err)
	}
	check := func(now, want time.Duration, wantOK bool) {
		t.Helper()
		if got, ok := f.Complete(shards, now); ok != wantOK || ok && got != want {
			t.Errorf("complete as of %v, %v; want %v, %v", got, ok, want, wantOK)
		}
	}
	check(5*time.Second, 5*time.Second, true)
	fresh[1] = false
	check(6*time.Second, 0, false)
	f.Mirror(1, Mirror{})
	check(6*time.Second, 0, false)
	f.Mirror(1, Mirror{Asked: 5 * time.Second})
	check(6*time.Second, 5*time.Second, true)
	f.Mirror(1, Mirror{Asked: 4 * time.Second}) // an answer that came late
	check(6*time.Second, 5*time.Second, true)
	fresh[1] = true
	check(7*time.Second, 7*time.Second, true)
}
