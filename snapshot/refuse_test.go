package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"filippo.io/age"

	"cloakroom"
)

// refused reads a whole file and fails unless the reading does, in one of the
// ways wanted and without a clean end.
func refused(t *testing.T, what string, file []byte, cfg Open, want ...error) {
	t.Helper()
	_, err := readAll(file, cfg)
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: %v, want %v", what, err, want)
}

// Every bit counts: one turned in each byte of the file is noticed.
func TestEveryFlippedByteIsRefused(t *testing.T) {
	state := noise(t, 50)
	file := written(t, headerFor(state), state)
	cfg := open(t)
	for at := range file {
		flipped := bytes.Clone(file)
		flipped[at] ^= 1 << (at % 8)
		switch {
		case at < 10:
			refused(t, "magic or format", flipped, cfg, ErrFormat)
		case at < 50:
			refused(t, "origin", flipped, cfg, ErrOther, ErrFormat)
		case at >= len(file)-trailerBytes:
			refused(t, "trailer", flipped, cfg, ErrSignature)
		case at < headerBytes:
			refused(t, "header", flipped, cfg, ErrSignature, ErrFormat, ErrDamaged, errNoSuchEpoch)
		default:
			if _, err := readAll(flipped, cfg); err == nil {
				t.Errorf("byte %d: read to the end", at)
			}
		}
	}
}

func TestEveryCutIsRefused(t *testing.T) {
	state := noise(t, 50)
	file := written(t, headerFor(state), state)
	for n := range file {
		refused(t, "cut", file[:n], open(t), ErrDamaged, ErrFormat)
	}
	refused(t, "a byte more", append(bytes.Clone(file), 0), open(t), ErrDamaged)
	refused(t, "twice", append(bytes.Clone(file), file...), open(t), ErrDamaged)
}

// Chunks of age are authenticated one by one; what is missing or too much must
// show all the same.
func TestMissingAndSwappedChunksAreRefused(t *testing.T) {
	state := noise(t, 4*chunkBytes)
	file := written(t, headerFor(state), state)
	const first, sealed = headerBytes + ageHeaderBytes + ageNonceBytes, chunkBytes + chunkTagBytes
	chunk := func(i int) []byte { return file[first+i*sealed : first+(i+1)*sealed] }
	for name, chunks := range map[string][]int{
		"the last missing":   {0, 1, 2},
		"one missing":        {0, 2, 3},
		"two swapped":        {1, 0, 2, 3},
		"one twice":          {0, 1, 1, 2, 3},
		"the last twice":     {0, 1, 2, 3, 3},
		"the last one early": {0, 1, 3, 2},
	} {
		cut := bytes.Clone(file[:first])
		for _, i := range chunks {
			cut = append(cut, chunk(i)...)
		}
		refused(t, name, append(cut, file[len(file)-trailerBytes:]...), open(t), ErrDamaged)
	}
}

func TestAnotherOriginIsRefused(t *testing.T) {
	state := noise(t, 50)
	file := written(t, headerFor(state), state)
	for name, change := range map[string]func(*Origin){
		"cluster":    func(o *Origin) { o.Cluster[15]++ },
		"group":      func(o *Origin) { o.Group++ },
		"generation": func(o *Origin) { o.Generation-- },
		"index":      func(o *Origin) { o.Index-- },
		"term":       func(o *Origin) { o.Term++ },
	} {
		cfg := open(t)
		change(&cfg.Want)
		cfg.Identity = func(cloakroom.Epoch) (age.Identity, error) {
			t.Errorf("%s: asked for an identity", name)
			return nil, errNoSuchEpoch
		}
		refused(t, name, file, cfg, ErrOther)
	}
}

// A header of one snapshot over the state of another, and a state sealed by
// somebody who knows the recipient, which is no secret.
func TestOnlyTheClusterCanSealASnapshot(t *testing.T) {
	state := noise(t, 50)
	file := written(t, headerFor(state), state)
	later := headerFor(state)
	later.Created++
	other := written(t, later, state)
	refused(t, "another's header", append(bytes.Clone(other[:headerBytes]), file[headerBytes:]...), open(t), ErrSignature)
	refused(t, "another's trailer", append(bytes.Clone(file[:len(file)-trailerBytes]), other[len(other)-trailerBytes:]...), open(t), ErrSignature)

	_, forger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := seal(t)
	cfg.Sign = func(context string, message []byte) ([8]byte, []byte) {
		return [8]byte{0xaa, 1}, ed25519.Sign(forger, append([]byte(context+"\x00"), message...))
	}
	var forged bytes.Buffer
	w, err := NewWriter(&forged, headerFor(state), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, "a forger's", forged.Bytes(), open(t), ErrSignature)
}

func TestSealedToAnotherIdentityIsRefused(t *testing.T) {
	state := noise(t, 50)
	h := headerFor(state)
	h.Epoch++
	refused(t, "an unknown epoch", written(t, h, state), open(t), errNoSuchEpoch)

	stranger, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cfg := open(t)
	cfg.Identity = func(cloakroom.Epoch) (age.Identity, error) { return stranger, nil }
	refused(t, "another identity", written(t, headerFor(state), state), cfg, ErrDamaged)
}

// A length in the header that is not that of the state, all else being right:
// only who holds the signing key could write it.
func TestAnotherLengthIsRefused(t *testing.T) {
	state := noise(t, 50)
	for name, payload := range map[string]int64{"shorter": 49, "longer": 51, "much longer": maxPayload} {
		file := written(t, headerFor(state), state)
		h := headerFor(state)
		h.Payload = payload
		copy(file, h.append(nil))
		refused(t, name, file, open(t), ErrDamaged)
	}
}

// age would read headers of many stanzas and of up to 2 MiB; format 1 has one
// form, and a reader is never told a snapshot is whole that is not in it.
func TestAnotherAgeHeaderIsRefused(t *testing.T) {
	state := noise(t, 50)
	h := headerFor(state)
	resealed := func(recipients ...age.Recipient) []byte {
		var stream bytes.Buffer
		w, err := age.Encrypt(&stream, recipients...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(state); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return resigned(t, h.append(nil), stream.Bytes())
	}
	own := hybrid(t).Recipient()
	if _, err := readAll(resealed(own), open(t)); err != nil {
		t.Fatalf("sealed and signed anew: %v: the test shows nothing", err)
	}
	two, many := []age.Recipient{own, own}, make([]age.Recipient, 50)
	for i := range many {
		many[i] = own
	}
	refused(t, "two recipients", resealed(two...), open(t), ErrDamaged)
	stream, one := int64(len(resealed(two...))), int64(len(resealed(own)))
	h.Payload += stream - one // so that the whole has the length it should
	refused(t, "two recipients and a state as much shorter", resealed(two...), open(t), ErrDamaged)
	h.Payload = int64(len(state))
	refused(t, "a header of 80 kB", resealed(many...), open(t), ErrDamaged)
}

// resigned is a file whose signature is good whatever stands in it.
func resigned(t testing.TB, header, stream []byte) []byte {
	t.Helper()
	sha := newInbox(bytes.NewReader(nil)).sha
	sha.Write(stream)
	key, sig := seal(t).Sign(Context, sha.Sum(bytes.Clone(header)))
	file := append(bytes.Clone(header), stream...)
	return append(append(file, key[:]...), sig...)
}

func TestHeadersThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Header){
		"no cluster":           func(h *Header) { h.Cluster = [16]byte{} },
		"generation 0":         func(h *Header) { h.Generation = 0 },
		"created before 1970":  func(h *Header) { h.Created = -1 },
		"epoch 0":              func(h *Header) { h.Epoch = 0 },
		"no range of epochs":   func(h *Header) { h.Lowest = h.Highest + 1 },
		"half a range":         func(h *Header) { h.Lowest = 0 },
		"more living than all": func(h *Header) { h.Living, h.Erased = h.Records+1, 0 },
		"more erased than all": func(h *Header) { h.Living, h.Erased = 1, h.Records },
		"counts that overflow": func(h *Header) { h.Living, h.Erased = 2, 1<<64-2 },
		"a negative length":    func(h *Header) { h.Payload = -1 },
		"a length too great":   func(h *Header) { h.Payload = maxPayload + 1 },
	} {
		h := headerFor(make([]byte, 50))
		change(&h)
		if _, err := NewWriter(io.Discard, h, seal(t)); err == nil {
			t.Errorf("%s: written", name)
		}
		if _, err := ReadHeader(bytes.NewReader(h.append(nil))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: read: %v, want ErrFormat", name, err)
		}
	}
	h := headerFor(nil)
	h.Lowest, h.Highest = 0, 0
	if _, err := ReadHeader(bytes.NewReader(h.append(nil))); err != nil {
		t.Errorf("a header without records: %v", err)
	}
}

// A connection that breaks is not a damaged snapshot.
func TestErrorsOfTheSourceArePassedOn(t *testing.T) {
	state := noise(t, 2*chunkBytes)
	file := written(t, headerFor(state), state)
	broken := errors.New("connection reset")
	for _, n := range []int{0, 50, headerBytes, headerBytes + 700, 70_000, len(file) - trailerBytes, len(file) - 1, len(file)} {
		from := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken))
		r, err := NewReader(from, open(t))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: %v", n, err)
		}
	}
}

// The first error stays, and so does the end.
func TestReaderStaysWhereItEnded(t *testing.T) {
	state := noise(t, 50)
	file := written(t, headerFor(state), state)
	good, err := NewReader(bytes.NewReader(file), open(t))
	if err != nil {
		t.Fatal(err)
	}
	file = bytes.Clone(file)
	file[len(file)-1] ^= 1
	bad, err := NewReader(bytes.NewReader(file), open(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := io.ReadAll(good); err != nil {
			t.Errorf("good: %v", err)
		}
		if _, err := io.ReadAll(bad); !errors.Is(err, ErrSignature) {
			t.Errorf("bad: %v, want ErrSignature", err)
		}
	}
}
