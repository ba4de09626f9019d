package recovery

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
)

// Patience is how long the shares of an attempt are kept, from the first one
// on: people who do not get together in that time begin anew.
const Patience = 15 * time.Minute

// Progress is how far a [Gathering] has come.
type Progress struct {
	Have      int       `json:"have"`
	Threshold int       `json:"threshold"`
	Until     time.Time `json:"until,omitzero"` // when what there is lapses
}

// Config is what a [Gathering] is for.
type Config struct {
	Memory  *securemem.Memory
	Cluster [16]byte
	Public  Public
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Gathering collects shares until there are enough of them.
type Gathering struct {
	cfg Config

	mu      sync.Mutex
	values  *securemem.Secret // of the shares so far, in the order they came
	indexes []byte            // of the same
	until   time.Time
	lapse   *time.Timer
	round   int // counts attempts, for a timer that comes late
	closed  bool
}

// NewGathering returns one that has no share yet. Close it.
func NewGathering(cfg Config) (*Gathering, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var faults []error
	if cfg.Memory == nil {
		faults = append(faults, errors.New("no memory given"))
	}
	if cfg.Cluster == [16]byte{} {
		faults = append(faults, errors.New("no cluster id given"))
	}
	if err := errors.Join(append(faults, cfg.Public.Check())...); err != nil {
		return nil, fmt.Errorf("gather shares: %w", err)
	}
	return &Gathering{cfg: cfg}, nil
}

// Progress tells how far it has come.
func (g *Gathering) Progress() Progress {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.progress()
}

func (g *Gathering) progress() Progress {
	return Progress{Have: len(g.indexes), Threshold: g.cfg.Public.Threshold, Until: g.until}
}

// Offer takes the text of a share, in guarded memory. With the last one needed
// it returns the seed of the recovery identity, which belongs to the caller,
// and forgets all shares. It returns [cloakroom.ErrShare], with the reason, for a share that is malformed,
// of another cluster, none of those given out, or there already; nothing has
// changed then.
func (g *Gathering) Offer(text []byte) (Progress, *securemem.Secret, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return Progress{}, nil, errors.New("gather shares: closed")
	}
	if g.values == nil {
		values, err := g.cfg.Memory.NewSecret(shareBytes + g.cfg.Public.Threshold*valueBytes)
		if err != nil {
			return g.progress(), nil, fmt.Errorf("gather shares: %w", err)
		}
		g.values = values
	}
	var err error
	g.values.Use(func(room []byte) { err = g.take(room, text) })
	if err != nil {
		if len(g.indexes) == 0 {
			g.forget()
		}
		return g.progress(), nil, cloakroom.Because(cloakroom.ErrShare, err.Error())
	}
	if len(g.indexes) == 1 {
		g.patience()
	}
	if len(g.indexes) < g.cfg.Public.Threshold {
		return g.progress(), nil, nil
	}
	have := g.progress()
	seed, err := g.restore()
	g.forget()
	return have, seed, err
}

// take reads a share into the first bytes of room and adds its value to those
// behind.
func (g *Gathering) take(room, text []byte) error {
	defer clear(room[:shareBytes])
	s, hash, err := readShare(room[:shareBytes], text)
	if err != nil {
		return err
	}
	public := &g.cfg.Public
	if s.fingerprint != public.fingerprint() {
		return fmt.Errorf("it is of another cluster, or of shares that were replaced: its fingerprint is %x, wanted is %s",
			s.fingerprint, public.Fingerprint())
	}
	at := int(s.index) - 1
	if at < 0 || at >= len(public.Shares) || public.Shares[at] != hash || int(s.threshold) != public.Threshold {
		return fmt.Errorf("share %d is not the one that was given out", s.index)
	}
	if slices.Contains(g.indexes, s.index) {
		return fmt.Errorf("share %d is here already: bring another one", s.index)
	}
	copy(room[shareBytes+len(g.indexes)*valueBytes:], s.value)
	g.indexes = append(g.indexes, s.index)
	return nil
}

// restore combines the shares.
func (g *Gathering) restore() (*securemem.Secret, error) {
	defer collect() // a share that is refused leaves nothing: nobody keeps the collector busy
	seed, err := g.cfg.Memory.NewSecret(hybrid.SeedBytes)
	if err != nil {
		return nil, fmt.Errorf("combine shares: %w", err)
	}
	g.values.Use(func(room []byte) { err = combine(seed, g.cfg.Cluster, g.indexes, room[shareBytes:]) })
	if err == nil && hybrid.NewRecipient(seed).String() != g.cfg.Public.Recipient {
		err = errors.New("combine shares: they do not make the secret of this cluster")
	}
	if err != nil {
		seed.Destroy()
		return nil, err
	}
	return seed, nil
}

// patience has what there is lapse in time.
func (g *Gathering) patience() {
	g.until = g.cfg.Now().Add(Patience)
	round := g.round
	g.lapse = time.AfterFunc(Patience, func() { // forget stops it
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.round == round {
			g.forget()
		}
	})
}

// forget wipes what there is.
func (g *Gathering) forget() {
	if g.lapse != nil {
		g.lapse.Stop()
	}
	if g.values != nil {
		g.values.Destroy()
	}
	g.values, g.indexes, g.until, g.lapse = nil, nil, time.Time{}, nil
	g.round++
}

// Close wipes what there is; no share is taken any more.
func (g *Gathering) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget()
	g.closed = true
}
