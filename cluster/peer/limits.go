package peer

import "time"

const (
	// MaxMessage is the largest body of a call or reply, in bytes.
	MaxMessage = 32 << 20
	// MaxCall is the longest a call may take.
	MaxCall = 60 * time.Second
)
