package confirm

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

func TestClocksComeWithTheAnswers(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		if got := g.rounds.Clocks(); got != nil {
			t.Errorf("Clocks = %v before anybody answered, want none", got)
		}
		sent := time.Now()
		c := g.confirm(t.Context(), one)
		b := g.at("b")
		sleep(40 * time.Millisecond)
		b.reply <- reply{answer: Answer{Yes: []bool{true}, Now: sent.Add(20*time.Millisecond + time.Hour), Free: 3, Limit: 9}}
		c.saysNow(true)
		g.at("c").answer(true)
		synctest.Wait()
		sleep(time.Second)
		want := []Reading{{"b", time.Hour, time.Second, 3, 9}, {"c", 20 * time.Millisecond, time.Second, 0, 0}}
		if got := g.rounds.Clocks(); !slices.Equal(got, want) {
			t.Errorf("Clocks = %v, want %v", got, want)
		}
		if age, ok := g.rounds.Heard("b"); !ok || age != time.Second {
			t.Errorf("Heard(b) = %v, %t, want 1s", age, ok)
		}
		if _, ok := g.rounds.Heard("x"); ok {
			t.Error("heard of a node that never was")
		}
	})
}

// The quickest two of three would leave the third unheard for ever.
func TestWhoIsNeverNeededIsHeardAllTheSame(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(2, 5, "a", "c", "d")
		hold := g.confirm(t.Context(), Want{2, 5}) // keeps the lane to c busy
		c := g.confirm(t.Context(), one)
		g.at("b").answer(true)
		c.saysNow(true)
		sleep(stale)
		// c failed to answer and rests; then its turn comes for a round long over.
		hold.says(false)
		c = g.confirm(t.Context(), one)
		if b := g.at("b"); b != nil {
			b.answer(true)
		}
		c.saysNow(true)
		sleep(stale)
		last := g.at("c")
		if last == nil || len(last.questions) != 0 {
			t.Fatalf("c is asked %v, want an ask without a question", last)
		}
		last.answer(true)
		synctest.Wait()
		if age, ok := g.rounds.Heard("c"); !ok || age != 0 {
			t.Errorf("Heard(c) = %v, %t, want just now", age, ok)
		}
		if g.at("c") != nil {
			t.Error("c is asked again, though nobody needs it")
		}
	})
}

// A clock that was set back must not keep a node unheard until it has caught up.
func TestTheClockIsSetBack(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.confirm(t.Context(), one)
		g.at("c").fail() // rests
		g.at("b").answer(true)
		c := g.confirm(t.Context(), one)
		g.at("b").answer(true)
		c.saysNow(true)
		g.setBack(time.Hour)
		sleep(rest)
		last := g.at("c")
		if last == nil {
			t.Fatal("c is not asked")
		}
		last.answer(true)
		synctest.Wait()
		if got := g.rounds.Clocks(); len(got) != 2 || got[1].Offset != time.Hour {
			t.Errorf("Clocks = %v, want c an hour ahead", got)
		}
	})
}

// stepped returns t with a wall clock that was set by d seconds; the monotonic
// reading stays.
func stepped(t time.Time, d uint64) time.Time {
	// The wall seconds of a time with a monotonic reading stand from bit 30 on.
	*(*uint64)(unsafe.Pointer(&t)) += d << 30
	return t
}

// The leader's wall clock is set a year ahead while another voter is silent.
// What that one said before must not look like a second clock a year ahead.
func TestAStepOfTheOwnClockMovesNoOther(t *testing.T) {
	const year = 365 * 24 * 3600
	got := time.Now()
	last := read(got, got, &Answer{Now: got.Round(0)})
	now := stepped(got.Add(time.Second), year)
	if now.Unix()-got.Unix() < year || now.Sub(got) != time.Second {
		t.Skip("times are kept in another form")
	}
	if offset, age := last.seen(now); offset != -year*time.Second || age != time.Second {
		t.Errorf("got %v ahead, %v old; want a year behind, a second old", offset, age)
	}
}

func TestMedian(t *testing.T) {
	base := time.UnixMilli(1_800_000_000_000)
	year := 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		self       time.Duration
		others     []time.Duration
		configured int
		want       time.Duration
		ok         bool
	}{
		"alone":                           {0, nil, 1, 0, true},
		"three agree":                     {2, []time.Duration{1, 3}, 3, 2, true},
		"own clock a year ahead":          {year, []time.Duration{1, 2}, 3, 2, true},
		"another a year ahead":            {2, []time.Duration{year, 1}, 3, 2, true},
		"another a year behind":           {2, []time.Duration{-year, 1}, 3, 1, true},
		"two of three agree":              {2, []time.Duration{1}, 3, 1, true},
		"two of three disagree":           {0, []time.Duration{year}, 3, 0, false},
		"one of three":                    {0, nil, 3, 0, false},
		"just within":                     {0, []time.Duration{Agreement}, 3, 0, true},
		"just beyond":                     {0, []time.Duration{Agreement + 1}, 3, 0, false},
		"all three apart":                 {0, []time.Duration{Agreement + 1, 2*Agreement + 2}, 3, 0, false},
		"two voters must both agree":      {5, []time.Duration{6}, 2, 5, true},
		"one of two":                      {5, nil, 2, 0, false},
		"three of five, two a year ahead": {0, []time.Duration{year, 1, year, 2}, 5, 2, true},
		"more heard than configured":      {0, []time.Duration{year}, 1, 0, false},
	} {
		var others []time.Time
		for _, d := range c.others {
			others = append(others, base.Add(d))
		}
		got, ok := Median(base.Add(c.self), others, c.configured)
		if ok != c.ok || ok && !got.Equal(base.Add(c.want)) {
			t.Errorf("%s: Median = %v, %t, want %v, %t", name, got.Sub(base), ok, c.want, c.ok)
		}
	}
}

// Whatever a minority's clocks say, shard time stays within the majority's.
func TestNoMinorityMovesTheMedian(t *testing.T) {
	base := time.UnixMilli(1_800_000_000_000)
	rapid.Check(t, func(t *rapid.T) {
		configured := rapid.IntRange(1, 7).Draw(t, "configured")
		right := rapid.IntRange(configured/2+1, configured).Draw(t, "right")
		wrong := rapid.IntRange(0, configured-right).Draw(t, "wrong")
		var clocks []time.Time
		for range right {
			clocks = append(clocks, base.Add(time.Duration(rapid.IntRange(0, int(Agreement)).Draw(t, "offset"))))
		}
		low, high := slices.MinFunc(clocks, time.Time.Compare), slices.MaxFunc(clocks, time.Time.Compare)
		for range wrong {
			clocks = append(clocks, base.Add(time.Duration(rapid.Int64Range(-1<<60, 1<<60).Draw(t, "wrong offset"))))
		}
		clocks = rapid.Permutation(clocks).Draw(t, "order")
		got, ok := Median(clocks[0], clocks[1:], configured)
		if !ok || got.Before(low) || got.After(high) {
			t.Fatalf("Median = %v, %t, want it between %v and %v", got, ok, low, high)
		}
	})
}

// Without a majority that agrees there is no time.
func TestNoMajorityNoTime(t *testing.T) {
	base := time.UnixMilli(1_800_000_000_000)
	rapid.Check(t, func(t *rapid.T) {
		configured := rapid.IntRange(1, 7).Draw(t, "configured")
		n := rapid.IntRange(1, configured).Draw(t, "heard")
		var clocks []time.Time
		for range n {
			clocks = append(clocks, base.Add(time.Duration(rapid.IntRange(0, 60_000).Draw(t, "ms"))*time.Millisecond))
		}
		agree := 0 // the most clocks that fit into Agreement
		for _, from := range clocks {
			in := 0
			for _, c := range clocks {
				if d := c.Sub(from); d >= 0 && d <= Agreement {
					in++
				}
			}
			agree = max(agree, in)
		}
		if _, ok := Median(clocks[0], clocks[1:], configured); ok != (agree > configured/2) {
			t.Fatalf("Median says %t where %d of %d agree", ok, agree, configured)
		}
	})
}
