package securemem

import (
	"errors"
	"fmt"
	"log/slog"
)

// LockMode says what must be locked into RAM, the setting memory.lock.
type LockMode uint8

const (
	// LockAuto always locks keys and buffers, and the record arena when the
	// limit allows.
	LockAuto LockMode = iota
	// LockRequired locks everything or refuses to start.
	LockRequired
	// LockOff uses plain memory for everything.
	LockOff
)

// ParseLockMode reads "auto", "required" or "off"; "" is auto.
func ParseLockMode(text string) (LockMode, error) {
	switch text {
	case "", "auto":
		return LockAuto, nil
	case "required":
		return LockRequired, nil
	case "off":
		return LockOff, nil
	}
	return 0, fmt.Errorf("memory.lock is %q: want required, auto or off", text)
}

// String returns what [ParseLockMode] reads.
func (m LockMode) String() string {
	switch m {
	case LockAuto:
		return "auto"
	case LockRequired:
		return "required"
	case LockOff:
		return "off"
	}
	return "unknown"
}

// The names of the backends, as Config.Backend and Status.Backend use them.
const (
	BackendSecretmem = "secretmem"
	BackendMemguard  = "memguard"
	BackendPlain     = "plain" // only with LockOff
)

// Config is what [Open] needs to know.
type Config struct {
	// Lock says what must be locked.
	Lock LockMode
	// Backend forces "secretmem" or "memguard"; "" is the best there is.
	Backend string
	// Limit is the size of the record arena in bytes, 4 GiB if 0. It is
	// rounded up to whole chunks of 128 KiB.
	Limit int64
	// Share says how many Memories this process is going to have; each takes
	// one part in Share of what can be locked. 1 if 0.
	Share int
	// Logger is told what could not be had; nil discards.
	Logger *slog.Logger
}

const (
	defaultLimit = 4 << 30
	maxShare     = 64
)

// normal returns cfg with its defaults filled in, or every fault it has.
func (cfg Config) normal() (Config, error) {
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	if cfg.Share == 0 {
		cfg.Share = 1
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	if cfg.Lock > LockOff {
		faults = append(faults, fmt.Errorf("lock mode %d is not known", cfg.Lock))
	}
	if cfg.Limit < 0 || cfg.Limit > maxLimit {
		faults = append(faults, fmt.Errorf("limit is %d bytes: want 0 to %d", cfg.Limit, int64(maxLimit)))
	}
	if cfg.Share < 1 || cfg.Share > maxShare {
		faults = append(faults, fmt.Errorf("share is %d: want 1 to %d", cfg.Share, maxShare))
	}
	switch cfg.Backend {
	case "", BackendSecretmem, BackendMemguard:
	default:
		faults = append(faults, fmt.Errorf("backend is %q: want %s or %s", cfg.Backend, BackendSecretmem, BackendMemguard))
	}
	if cfg.Lock == LockOff && cfg.Backend != "" {
		faults = append(faults, fmt.Errorf("backend %q cannot be had with memory.lock off", cfg.Backend))
	}
	cfg.Limit = (cfg.Limit + chunkBytes - 1) / chunkBytes * chunkBytes
	return cfg, errors.Join(faults...)
}
