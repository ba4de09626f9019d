package record

import "cloakroom/securemem"

// A value is sealed from a pad: a piece of guarded memory in which its length,
// its bytes and its padding come together, since they must not on the heap.
// Values of up to padBytes share a few small pads; longer ones, which are
// rare, wait for the one large pad. Pads are wiped before they go back.

const padBytes = 1 << 10

type pads struct {
	all   []*securemem.Secret
	small chan *securemem.Secret
	large chan *securemem.Secret
}

func (p *pads) make(mem *securemem.Memory, n int) error {
	p.small = make(chan *securemem.Secret, n)
	p.large = make(chan *securemem.Secret, 1)
	for i := range n + 1 {
		size, free := padBytes, p.small
		if i == n {
			size, free = maxClass, p.large
		}
		s, err := mem.NewSecret(size)
		if err != nil {
			p.destroy()
			return err
		}
		p.all = append(p.all, s)
		free <- s
	}
	return nil
}

// with calls f with a zeroed pad of n bytes, n at most maxClass. The wait is
// short: a pad is held for one encryption.
func (p *pads) with(n int, f func(pad []byte)) {
	free := p.small
	if n > padBytes {
		free = p.large
	}
	s := <-free
	defer func() { free <- s }()
	s.Use(func(b []byte) {
		defer clear(b[:n])
		f(b[:n])
	})
}

func (p *pads) destroy() {
	for _, s := range p.all {
		s.Destroy()
	}
}
