package snapshot

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
)

func newKeyring(t testing.TB, cluster [16]byte) *keyring.Keyring {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	keys, err := keyring.New(keyring.Config{
		Memory: mem, Cluster: cluster, Rand: rand.Reader,
		NextSealingNumber: func() (cloakroom.SealingNumber, error) { return 1, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	return keys
}

// How the two rooms fit, through a rotation and against another cluster's keys.
func TestSealedByAKeyring(t *testing.T) {
	keys, other := newKeyring(t, testHeader.Cluster), newKeyring(t, testHeader.Cluster)
	state := noise(t, 100_000)
	h := headerFor(state)
	var file bytes.Buffer
	epoch, recipient := keys.SnapshotRecipient()
	h.Epoch = epoch
	w, err := NewWriter(&file, h, Seal{Recipient: recipient, Sign: keys.SignNamed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	cfg := Open{Want: h.Origin, Identity: keys.SnapshotIdentity, Verify: keys.VerifyNamed}
	if got, err := readAll(file.Bytes(), cfg); err != nil || !bytes.Equal(got, state) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	cfg.Verify = other.VerifyNamed
	if _, err := readAll(file.Bytes(), cfg); !errors.Is(err, ErrSignature) {
		t.Errorf("verified by another keyring: %v, want ErrSignature", err)
	}
	cfg.Identity = other.SnapshotIdentity
	if _, err := readAll(file.Bytes(), cfg); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened by another keyring: %v, want ErrDamaged", err)
	}
	cfg.Identity = keys.SnapshotIdentity
	keys.Close()
	if _, err := readAll(file.Bytes(), cfg); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("opened by a closed keyring: %v, want ErrClosed", err)
	}
}

func readAll(file []byte, cfg Open) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(file), cfg)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
