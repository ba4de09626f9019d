package client

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

// cached is a client with a cache, its stream, and what the server would say.
type cached struct {
	t      *testing.T
	client *Client
	server *fakeServer
	stream *io.PipeWriter
	begun  time.Time

	mu    sync.Mutex
	value string // of every subject
	asked int    // ids
	slow  chan struct{}
}

// withCache runs a test in a bubble with a stream that has begun and is alive.
func withCache(t *testing.T, cfg CacheConfig, test func(*cached)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cached{t: t, server: newFakeServer(), value: "Ada", begun: time.Now()}
		c.server.resolve = func(ids []string) string {
			c.mu.Lock()
			c.asked += len(ids)
			value, slow := c.value, c.slow
			c.mu.Unlock()
			if slow != nil {
				<-slow
			}
			var subjects []string
			for _, id := range ids {
				subjects = append(subjects, fmt.Sprintf(`%q:{"name":%q}`, id, value))
			}
			return `{"subjects":{` + strings.Join(subjects, ",") + `},"missing":[]}`
		}
		c.client = c.server.client(t, &cfg)
		defer c.client.Close()
		c.stream = <-c.server.streams
		c.say(hello + reset + alive(0))
		c.pass(7 * time.Second) // the hold after the reset
		test(c)
	})
}

func (c *cached) say(text string) {
	io.WriteString(c.stream, text)
	synctest.Wait()
}

// pass lets time pass while the server says every second that it is alive.
func (c *cached) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		<-time.After(min(d, time.Second))
		c.say(alive(time.Since(c.begun)))
	}
}

// silent lets time pass while the server says nothing.
func (c *cached) silent(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var nameQuery = Query{Fields: []string{"name"}}

// resolve returns the value of a subject and whether the server was asked.
func (c *cached) resolve(id string, q Query) (value string, asked bool) {
	c.t.Helper()
	c.mu.Lock()
	before := c.asked
	c.mu.Unlock()
	got, err := c.client.Resolve(c.t.Context(), []cloakroom.Pseudonym{parse(c.t, id)}, q)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.client.cache != nil {
		c.client.cache.store.Wait()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return got.Subjects[parse(c.t, id)]["name"].Text(), c.asked > before
}

// want resolves and checks what came from where.
func (c *cached) want(what, id, value string, asked bool) {
	c.t.Helper()
	if got, was := c.resolve(id, nameQuery); got != value || was != asked {
		c.t.Errorf("%s: got %q, server asked %v; want %q, %v", what, got, was, value, asked)
	}
}

// set changes what the server says.
func (c *cached) set(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
}

func TestTheCacheAnswers(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		c.want("first", adaID, "Ada", true)
		c.set("other")
		c.want("again", adaID, "Ada", false)
		c.want("another subject", graceID, "other", true)
		for name, q := range map[string]Query{
			"other fields": {Fields: []string{"name", "email"}}, "another form": {Fields: []string{"name"}, Form: "masked"},
			"another purpose": {Fields: []string{"name"}, Purpose: "support"},
			"linearizable":    {Fields: []string{"name"}, Level: cloakroom.Linearizable},
			"after a write":   {Fields: []string{"name"}, After: "index"},
		} {
			if got, asked := c.resolve(adaID, q); !asked || got != "other" {
				t.Errorf("%s: answered from the cache", name)
			}
		}
		if got, want := c.client.CacheStats(), (CacheStats{Hits: 1, Misses: 5, Live: true}); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

// What callers do to an answer is not seen by others.
func TestCachedAnswersAreCopies(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		id := parse(t, adaID)
		for range 3 {
			got, err := c.client.Resolve(c.t.Context(), []cloakroom.Pseudonym{id}, nameQuery)
			if err != nil || got.Subjects[id]["name"].Text() != "Ada" {
				t.Fatalf("got %v, %v", got.Subjects[id]["name"].Text(), err)
			}
			got.Subjects[id]["name"] = Text("mine")
			c.client.cache.store.Wait()
		}
	})
}

func TestTheCacheHearsOfChanges(t *testing.T) {
	for name, event := range map[string]string{
		"changed": changes("c1", nil, []string{graceID, adaID}),
		"erased":  changes("c1", []string{adaID}, nil),
		"reset":   reset,
	} {
		t.Run(name, func(t *testing.T) {
			withCache(t, CacheConfig{}, func(c *cached) {
				c.want("before", adaID, "Ada", true)
				c.say(event)
				c.set("new")
				c.want("after", adaID, "new", true)
				// For two leases another node may answer from before: nothing read
				// meanwhile is kept.
				c.want("at once again", adaID, "new", true)
				c.pass(5 * time.Second)
				c.want("within two leases", adaID, "new", true)
				c.pass(2 * time.Second)
				c.want("later", adaID, "new", true)
				c.want("later again", adaID, "new", false)
			})
		})
	}
}

// An answer that was on its way when its subject changed is not kept.
func TestAnAnswerOvertakenByItsEvent(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		c.slow = make(chan struct{})
		done := make(chan string)
		go func() {
			got, _ := c.resolve(adaID, nameQuery)
			done <- got
		}()
		synctest.Wait()
		c.say(changes("c1", []string{adaID}, nil))
		close(c.slow)
		<-done
		c.set("new")
		c.want("after", adaID, "new", true)
	})
}

func TestTheCacheOfASilentStream(t *testing.T) {
	withCache(t, CacheConfig{Silence: 3 * time.Second}, func(c *cached) {
		c.want("before", adaID, "Ada", true)
		c.silent(2900 * time.Millisecond)
		c.want("within the silence", adaID, "Ada", false)
		c.set("new")
		c.silent(100 * time.Millisecond)
		c.want("after it", adaID, "new", true)
		c.silent(2 * time.Second)
		if n := c.client.cache.store.RemainingCost(); n != defaultCacheBytes {
			t.Errorf("%d of %d bytes are free: values lie about", n, defaultCacheBytes)
		}
		if c.client.CacheStats().Live {
			t.Error("still live")
		}
	})
}

// Words that were long on their way vouch for the time they were said.
func TestTheCacheOfASlowNetwork(t *testing.T) {
	withCache(t, CacheConfig{Silence: 3 * time.Second}, func(c *cached) {
		c.want("before", adaID, "Ada", true)
		c.set("new")
		said := time.Since(c.begun)
		c.silent(2 * time.Second)
		c.say(alive(said))
		c.silent(1500 * time.Millisecond)
		c.want("after 3.5 s", adaID, "new", true)
	})
}

func TestTheCacheForgetsWithTime(t *testing.T) {
	withCache(t, CacheConfig{MaxAge: 10 * time.Second}, func(c *cached) {
		c.want("first", adaID, "Ada", true)
		c.set("new")
		c.pass(9 * time.Second)
		c.want("young", adaID, "Ada", false)
		c.pass(time.Second)
		c.want("old", adaID, "new", true)
	})
}

func TestAClientSeesItsOwnWrites(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		c.want("first", adaID, "Ada", true)
		c.set("new")
		c.client.forget(parse(t, adaID))
		c.want("after a write", adaID, "new", true)
	})
}

func TestACacheWithoutTheRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer()
		f.refuse = func(int) (int, string) { return 403, "denied" }
		f.resolve = func(ids []string) string { return `{"subjects":{"` + ids[0] + `":{}},"missing":[]}` }
		client := f.client(t, &CacheConfig{})
		defer client.Close()
		<-time.After(25 * time.Second)
		for range 2 {
			if _, err := client.Resolve(t.Context(), []cloakroom.Pseudonym{parse(t, adaID)}, nameQuery); err != nil {
				t.Fatal(err)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := client.CacheStats(); got != (CacheStats{Misses: 2}) || len(f.cursors) != 3 {
			t.Errorf("stats %+v after %d tries, want 2 misses after 3", got, len(f.cursors))
		}
	})
}

// While a machine sleeps its monotonic clock may stand still.
func TestTheCacheOfAMachineThatSlept(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		c.want("before", adaID, "Ada", true)
		c.set("new")
		known := *c.client.cache.known.Load()
		known.wall -= int64(time.Minute)
		c.client.cache.known.Store(&known)
		c.want("after", adaID, "new", true)
	})
}

// Two subjects whose keys collide are told apart.
func TestCollidingAnswers(t *testing.T) {
	withCache(t, CacheConfig{}, func(c *cached) {
		c.want("first", adaID, "Ada", true)
		c.set("Grace")
		k, key := c.client.cache, nameQuery.key()
		e, _ := k.store.Get(k.slot(parse(t, adaID), key))
		for _, query := range []string{key, "other"} {
			k.store.Set(k.slot(parse(t, graceID), query), e, 1)
		}
		k.store.Wait()
		c.want("another subject", graceID, "Grace", true)
	})
}

func TestBadCacheConfig(t *testing.T) {
	_, err := New(Config{Addr: "localhost:1", Transport: newFakeServer(), Cache: &CacheConfig{Bytes: 1, Silence: time.Second, MaxAge: -1}})
	if err == nil || !strings.Contains(err.Error(), "size or age") || !strings.Contains(err.Error(), "silence") {
		t.Errorf("got %v", err)
	}
}

// truth is a store of two nodes: events come from one that applies at once,
// reads from one that is up to a lease behind. Each subject's value is a
// number that only grows; at is when a value was acknowledged.
type truth struct {
	mu     sync.Mutex
	ids    []string
	values []int
	behind []int // what the other node answers
	acked  [][]time.Time
	told   []string // erased or changed, not said yet
}

// Whatever the network does to the stream, no read returns a value that was
// replaced, and that acknowledged, longer ago than the silence.
func TestNoReplacedValueIsServedForLong(t *testing.T) {
	seed := rand.Uint64()
	hits := uint64(0)
	for run := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			hits += serveFromCache(t, rand.New(rand.NewPCG(seed, run)))
			if t.Failed() {
				t.Fatalf("seed %d, run %d", seed, run)
			}
		})
	}
	if hits == 0 {
		t.Errorf("seed %d: the cache never answered", seed)
	}
}

func serveFromCache(t *testing.T, rng *rand.Rand) (hits uint64) {
	const lease, silence, subjects = 3 * time.Second, 4 * time.Second, 8
	w := &truth{}
	for i := range subjects {
		w.ids = append(w.ids, fmt.Sprintf("%08x-8c3f-4a1e-9d7a-0f6f3c1b2a4d", i<<8|i))
		w.values, w.behind, w.acked = append(w.values, 0), append(w.behind, 0), append(w.acked, []time.Time{time.Now()})
	}
	f := newFakeServer()
	f.resolve = w.read
	down := time.Now()
	f.refuse = func(int) (int, string) {
		if time.Now().Before(down) {
			return 503, "starting"
		}
		return 0, ""
	}
	client := f.client(t, &CacheConfig{Silence: silence})
	defer func() {
		client.Close()
		<-time.After(10 * time.Second) // streams find out, writes end
	}()
	for range 400 {
		select {
		case s := <-f.streams:
			go w.speak(s, rand.New(rand.NewPCG(rng.Uint64(), 0)))
		default:
		}
		<-time.After(time.Duration(rng.IntN(400)) * time.Millisecond)
		if rng.IntN(12) == 0 {
			go w.write(rng.IntN(subjects), time.Duration(rng.IntN(int(lease))))
		}
		w.check(t, client, rng.IntN(subjects), silence)
		if rng.IntN(100) == 0 {
			f.mu.Lock()
			down = time.Now().Add(20 * time.Second)
			f.mu.Unlock()
		}
	}
	return client.CacheStats().Hits
}

// read answers from the node that is behind.
func (w *truth) read(ids []string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var subjects []string
	for _, id := range ids {
		for i := range w.ids {
			if w.ids[i] == id {
				subjects = append(subjects, fmt.Sprintf(`%q:{"name":"%d"}`, id, w.behind[i]))
			}
		}
	}
	return `{"subjects":{` + strings.Join(subjects, ",") + `},"missing":[]}`
}

// write replaces a value: applied where events come from, then on the other
// node, then acknowledged.
func (w *truth) write(i int, lag time.Duration) {
	w.mu.Lock()
	w.values[i]++
	value := w.values[i]
	w.acked[i] = append(w.acked[i], time.Time{})
	w.told = append(w.told, w.ids[i])
	w.mu.Unlock()
	<-time.After(lag)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind[i] = max(w.behind[i], value)
	w.acked[i][value] = time.Now()
}

// speak is a stream: what changed and up to when that is all, over a network
// that holds words back, and breaks now and then. What was not said is said on
// the next stream.
func (w *truth) speak(s *io.PipeWriter, rng *rand.Rand) {
	defer s.Close()
	begun := time.Now()
	text, told := hello, []string(nil)
	w.mu.Lock()
	if rng.IntN(2) == 0 {
		text, w.told = text+reset, nil
	}
	w.mu.Unlock()
	bad := rng.IntN(2) == 0
	for range 5 + rng.IntN(100) {
		if bad || rng.IntN(20) == 0 {
			<-time.After(time.Duration(rng.IntN(4500)) * time.Millisecond)
		}
		if _, err := io.WriteString(s, text); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, told...)
			return
		}
		<-time.After(500 * time.Millisecond)
		w.mu.Lock()
		text, told, w.told = "", w.told, nil
		if len(told) > 0 {
			text = changes("c", told, nil)
		}
		text += alive(time.Since(begun))
		w.mu.Unlock()
	}
}

func (w *truth) check(t *testing.T, client *Client, i int, silence time.Duration) {
	got, err := client.Resolve(t.Context(), []cloakroom.Pseudonym{parse(t, w.ids[i])}, nameQuery)
	if err != nil {
		t.Fatal(err)
	}
	client.cache.store.Wait()
	var value int
	fmt.Sscan(got.Subjects[parse(t, w.ids[i])]["name"].Text(), &value)
	w.mu.Lock()
	defer w.mu.Unlock()
	if value+1 >= len(w.acked[i]) {
		return
	}
	if at := w.acked[i][value+1]; !at.IsZero() && time.Since(at) > silence {
		t.Errorf("a value that was replaced %v ago", time.Since(at))
	}
}
