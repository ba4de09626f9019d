package keyring

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom"
)

// The snapshot identity of the golden files has the seed c0…df. This is the
// same in the text form of the age module.
const goldenIdentity = "AGE-SECRET-KEY-PQ-1CRQU9S7YCHRV0JXFET9UENWWELGDR5KN6N2AD47CM8DDHHXAMM0SS32QLF"

func sealedTo(t *testing.T, to age.Recipient, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func opened(file []byte, with age.Identity) (string, error) {
	r, err := age.Decrypt(bytes.NewReader(file), with)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// What either seals the other opens: a snapshot is a plain age file.
func TestSnapshotIdentityIsAges(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	theirs, err := age.ParseHybridIdentity(goldenIdentity)
	if err != nil {
		t.Fatal(err)
	}
	epoch, recipient := k.SnapshotRecipient()
	ours, err := k.SnapshotIdentity(epoch)
	if err != nil || epoch != 1 {
		t.Fatalf("identity of epoch %d: %v", epoch, err)
	}
	for name, to := range map[string]age.Recipient{"ours": recipient, "theirs": theirs.Recipient()} {
		file := sealedTo(t, to, "a state")
		for by, with := range map[string]age.Identity{"ours": ours, "theirs": theirs} {
			if text, err := opened(file, with); err != nil || text != "a state" {
				t.Errorf("sealed to %s, opened by %s: %q, %v", name, by, text, err)
			}
		}
	}
	if _, err := age.Encrypt(io.Discard, recipient, theirs.Recipient()); err != nil {
		t.Errorf("both in one file: %v", err)
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Encrypt(io.Discard, recipient, classic.Recipient()); err == nil {
		t.Error("a quantum computer may open what is sealed to both kinds, and age let it pass")
	}
}

// Each epoch has its own; the older ones go on opening.
func TestSnapshotIdentitiesFollowEpochs(t *testing.T) {
	cfg := testConfig(t)
	cfg.Rand = nil
	k := newTestKeyring(t, cfg)
	_, first := k.SnapshotRecipient()
	old := sealedTo(t, first, "old")
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	epoch, second := k.SnapshotRecipient()
	if lowest, highest := k.Epochs(); epoch != 2 || lowest != 1 || highest != 2 {
		t.Errorf("sealing to epoch %d of %d to %d", epoch, lowest, highest)
	}
	files := [][]byte{old, sealedTo(t, second, "new")}
	blob := encoded(t, k)
	again, err := Decode(cfg, blob)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, ring := range []*Keyring{k, again} {
		for e := range cloakroom.Epoch(2) {
			id, err := ring.SnapshotIdentity(e + 1)
			if err != nil {
				t.Fatal(err)
			}
			for i, file := range files {
				_, err := opened(file, id)
				if fits := i == int(e); fits != (err == nil) || !fits && !errors.Is(err, age.ErrIncorrectIdentity) {
					t.Errorf("file of epoch %d opened with identity of epoch %d: %v", i+1, e+1, err)
				}
			}
		}
	}
	for _, e := range []cloakroom.Epoch{0, 3} {
		if _, err := k.SnapshotIdentity(e); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("identity of epoch %d: %v, want ErrUnknownKey", e, err)
		}
	}
}

// Stanzas of other kinds, and broken ones of ours, do not fit; the right one
// among them is found.
func TestForeignStanzasDoNotFit(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	_, recipient := k.SnapshotRecipient()
	id, err := k.SnapshotIdentity(1)
	if err != nil {
		t.Fatal(err)
	}
	fileKey := []byte("sixteen bytes in")
	stanzas, err := recipient.Wrap(fileKey)
	if err != nil || len(stanzas) != 1 {
		t.Fatalf("Wrap = %d stanzas, %v", len(stanzas), err)
	}
	right := stanzas[0]
	// age takes file keys of one length: a ciphertext of many keys needs room.
	longer, err := recipient.Wrap(append(bytes.Clone(fileKey), 0))
	if err != nil {
		t.Fatal(err)
	}
	// The last digit has four bits that mean nothing.
	digits := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	end := len(right.Args[0]) - 1
	other := right.Args[0][:end] + string(digits[strings.IndexByte(digits, right.Args[0][end])^1])
	foreign := map[string]*age.Stanza{
		"another type":            {Type: "X25519", Args: right.Args, Body: right.Body},
		"no argument":             {Type: right.Type, Body: right.Body},
		"two arguments":           {Type: right.Type, Args: []string{right.Args[0], "x"}, Body: right.Body},
		"not base64":              {Type: right.Type, Args: []string{strings.Repeat("!", len(right.Args[0]))}, Body: right.Body},
		"a short encapsulation":   {Type: right.Type, Args: []string{right.Args[0][:1400]}, Body: right.Body},
		"another encapsulation":   {Type: right.Type, Args: []string{"AAAA" + right.Args[0][4:]}, Body: right.Body},
		"a low-order point":       {Type: right.Type, Args: []string{right.Args[0][:1451] + strings.Repeat("A", 43)}, Body: right.Body},
		"a longer file key":       longer[0],
		"bits that mean nothing":  {Type: right.Type, Args: []string{other}, Body: right.Body},
		"a short body":            {Type: right.Type, Args: right.Args, Body: right.Body[1:]},
		"a body of another key":   {Type: right.Type, Args: right.Args, Body: bytes.Repeat([]byte{1}, len(right.Body))},
		"padding in the argument": {Type: right.Type, Args: []string{right.Args[0] + "="}, Body: right.Body},
	}
	var all []*age.Stanza
	for name, s := range foreign {
		if _, err := id.Unwrap([]*age.Stanza{s}); !errors.Is(err, age.ErrIncorrectIdentity) {
			t.Errorf("%s: %v, want ErrIncorrectIdentity", name, err)
		}
		all = append(all, s)
	}
	got, err := id.Unwrap(append(all, right))
	if err != nil || !bytes.Equal(got, fileKey) {
		t.Errorf("the right one among them: %x, %v", got, err)
	}
	k.Close()
	if _, err := id.Unwrap(stanzas); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// Half an epoch would be no version: nothing of it may stay.
func TestFailedRotationChangesNothing(t *testing.T) {
	cfg := testConfig(t)
	limited := &io.LimitedReader{R: &countingReader{}, N: 7 * keyBytes}
	cfg.Rand = limited
	k := newTestKeyring(t, cfg)
	before := k.Hash()
	leaveRoom(t, cfg.Memory, 4<<10) // for 64 keys
	for range 100 {
		limited.N = keyBytes + 1
		if err := k.Rotate(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("Rotate without randomness for a second key: %v", err)
		}
	}
	epoch, _ := k.SnapshotRecipient()
	if k.Version() != 1 || k.Hash() != before || epoch != 1 {
		t.Errorf("version %d, epoch %d", k.Version(), epoch)
	}
	limited.N = 2 * keyBytes
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	if epoch, _ := k.SnapshotRecipient(); epoch != 2 {
		t.Errorf("epoch %d after a rotation that succeeded, want 2", epoch)
	}
}
