package peer

import "time"

const (
	// MaxMessage is the largest body of a call or reply, in bytes.
	MaxMessage = 32 << 20
	// MaxCall is the longest a call may take.
	MaxCall = 60 * time.Second

	// maxInFlight is the most calls a connection carries unanswered. Both ends
	// keep to it: the caller waits, the server stops reading.
	maxInFlight = 1024
	// maxGhosts is the most of them that may stand for longer than
	// Config.Stall with nobody waiting any more. A peer that owes more does
	// not answer, although it knows the deadlines, and is cut off.
	maxGhosts = maxInFlight / 2
	// maxBodies bounds the bodies of the calls a server works on for one
	// connection, and the frames that wait to be written to one. Beyond it no
	// more is read; a frame that is larger travels alone.
	maxBodies = 64 << 20
	// maxBacklog is how many bytes may wait to be written before the
	// connection is given up, in bytes: a peer that asks and does not listen.
	maxBacklog = 4 * maxBodies
	// maxShaking is the most connections in their handshake; the oldest goes
	// when one more comes.
	maxShaking = 256
	// maxStrangers is the most strangers that are answered at a time; more are
	// told to come again. Each may cost a commit of the directory.
	maxStrangers = 16
	// MaxKnock is the largest question of a stranger and the largest answer, in
	// bytes.
	MaxKnock = 16 << 10
	// maxWelcome is the longest a stranger is served.
	maxWelcome = 20 * time.Second
	// maxPerNode is the most call connections accepted from one node; the
	// oldest goes. An honest node has one, and one more for a moment.
	maxPerNode = 8
	// maxStreams is the most raft connections accepted from one node: 65
	// groups with four each, and room for those that are on their way out.
	maxStreams = 1024
	// maxQueued is the most connections that wait for one replica's Accept.
	maxQueued = 64
	// maxDialling is the most handshakes under way to one address. When all
	// groups lose a leader at once each wants connections at once, and a
	// handshake is the dearest thing a port does: where the processor is
	// scarce a hundred together would all come too late, time and again, while
	// a few at a time are done one after the other.
	maxDialling = 8
	// maxIdleWorkers is the most goroutines of a connection that wait for
	// another call.
	maxIdleWorkers = 256
	// readBuffer is what a connection reads ahead, in bytes.
	readBuffer = 16 << 10
	// dialPause is for how long a failed dial answers for those that come next.
	dialPause = 100 * time.Millisecond
	// ticks is how often the connections are looked at within Config.Stall.
	ticks = 6
)
