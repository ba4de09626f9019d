package record

import (
	"context"

	"cloakroom/securemem"
)

// A value is sealed from a pad: a piece of guarded memory in which its length,
// its bytes and its padding come together, since they must not on the heap.
// Values of up to padBytes share a few small pads; longer ones, which are
// rare, wait for the one large pad. Pads are wiped before they go back.
//
// The small pads are key memory. The large one is a request buffer that the
// room holds for its life: 64 KiB in one piece are not to be had for sure
// between the keys, and a buffer taken when a value is sealed, by a request
// that holds others, could wait for itself.
type pads struct {
	all   []*securemem.Secret
	small chan *securemem.Secret
	large chan *securemem.Buffer
}

const padBytes = 1 << 10

func (p *pads) make(mem *securemem.Memory, n int) error {
	p.small = make(chan *securemem.Secret, n)
	p.large = make(chan *securemem.Buffer, 1)
	for range n {
		s, err := mem.NewSecret(padBytes)
		if err != nil {
			p.destroy()
			return err
		}
		p.all = append(p.all, s)
		p.small <- s
	}
	now, cancel := context.WithCancel(context.Background())
	cancel() // at start the pool is free, or too small
	large, err := mem.Pool().Get(now, maxClass)
	if err != nil {
		p.destroy()
		return err
	}
	p.large <- large
	return nil
}

// with calls f with a zeroed pad of n bytes, n at most maxClass. The wait is
// short: a pad is held for one encryption.
func (p *pads) with(n int, f func(pad []byte)) {
	if n > padBytes {
		b := <-p.large
		defer func() { p.large <- b }()
		securemem.Do(func() { sealFrom(b.Bytes()[:n], f) })
		return
	}
	s := <-p.small
	defer func() { p.small <- s }()
	s.Use(func(b []byte) { sealFrom(b[:n], f) })
}

func sealFrom(pad []byte, f func(pad []byte)) {
	defer clear(pad)
	f(pad)
}

func (p *pads) destroy() {
	for _, s := range p.all {
		s.Destroy()
	}
	select {
	case b := <-p.large:
		b.Release()
	default:
	}
}
