package securemem

import (
	"errors"
	"fmt"
	"math"
)

const (
	keyBytesSmall = 512 << 10 // with less than roomy lockable
	keyBytesLarge = 960 << 10
	minPoolBytes  = 256 << 10
	smallPool     = 1 << 20
	maxPoolBytes  = 64 << 20
	roomy         = 16 << 20
)

// plan is what [Open] maps, and how.
type plan struct {
	backend   string
	lockable  int64
	small     protection // keys and pool
	arena     protection
	keyBytes  int
	poolBytes int
}

// makePlan decides by the lock mode, the kernel and RLIMIT_MEMLOCK.
func makePlan(cfg Config) (plan, error) {
	if cfg.Lock == LockOff {
		return plan{backend: BackendPlain, lockable: lockable(cfg.Share), small: plainPages, arena: hugePages,
			keyBytes: keyBytesLarge, poolBytes: maxPoolBytes}, nil
	}
	p := plan{lockable: lockable(cfg.Share), keyBytes: keyBytesSmall}
	if p.lockable >= roomy {
		p.keyBytes = keyBytesLarge
	}
	switch {
	case cfg.Backend == BackendMemguard || cfg.Backend == "" && !haveSecretmem():
		p.backend, p.small = BackendMemguard, memguardPages
	case haveSecretmem():
		p.backend, p.small = BackendSecretmem, secretPages
	default:
		return plan{}, errors.New("memfd_secret is not available: it needs Linux 5.14 and secretmem.enable=1")
	}
	p.poolBytes = poolSize(p.lockable)
	small := int64(p.keyBytes) + int64(max(p.poolBytes, minPoolBytes))
	if p.lockable < small {
		return plan{}, tooLittle(p.lockable, small, cfg.Share, "keys and buffers")
	}
	// Not secretmem: the arena holds sealed records only, secretmem knows no
	// large pages and never gives one back (DESIGN.md, "The arena").
	p.arena = lockedPages
	if need := small + regionBytesFor(cfg.Limit); p.lockable < need {
		if cfg.Lock == LockRequired {
			return plan{}, tooLittle(p.lockable, need, cfg.Share, "keys, buffers and the record arena")
		}
		p.arena = hugePages
	}
	return p, nil
}

// poolSize is a quarter of what can be locked, at most 64 MiB, in whole
// largest buffers. Of less than 4 MiB it is up to a half: a small pool has small
// buffers, and a page of pseudonyms must fit into one.
func poolSize(lockable int64) int {
	n := int(min(max(lockable/4, min(lockable/2, smallPool)), maxPoolBytes))
	return n &^ (largestBlock(n) - 1)
}

// regionBytesFor is what an arena of limit bytes maps at most.
func regionBytesFor(limit int64) int64 {
	if limit <= regionBytes {
		return limit
	}
	return (limit + regionBytes - 1) / regionBytes * regionBytes
}

// tooLittle says which limit stands in the way and how to raise it. have and
// need are bytes of one of share nodes in this process.
func tooLittle(have, need int64, share int, what string) error {
	haveText := "no limit"
	if have != math.MaxInt64 {
		haveText = fmt.Sprintf("%d KiB", have>>10)
	}
	if share > 1 {
		haveText += fmt.Sprintf(" for each of %d nodes", share)
		what += " of one of them"
	}
	return fmt.Errorf("RLIMIT_MEMLOCK leaves %s to lock, %s need %d KiB: raise it (systemd: LimitMEMLOCK=; shell: ulimit -l; container: --ulimit memlock=), "+
		"give the process CAP_IPC_LOCK, or choose another memory.lock", haveText, what, (need+1023)>>10)
}
