package securemem

import "testing"

// openTest opens guarded memory for a test.
func openTest(t testing.TB, cfg Config) *Memory {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// backends opens guarded memory of each kind in turn.
func backends(t *testing.T, f func(t *testing.T, m *Memory)) {
	for _, cfg := range []Config{
		{Backend: BackendSecretmem, Limit: 4 << 20},
		{Backend: BackendMemguard, Limit: 4 << 20},
		{Lock: LockOff, Limit: 4 << 20},
	} {
		t.Run(cfg.Backend+cfg.Lock.String(), func(t *testing.T) {
			if cfg.Backend == BackendSecretmem && !haveSecretmem() {
				t.Skip("the kernel has no memfd_secret")
			}
			f(t, openTest(t, cfg))
		})
	}
}
