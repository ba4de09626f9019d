package replica

import (
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// answerTimeout is how long a peer may take to answer anything but a
	// snapshot. Elections don't wait for it, and a stream on which nothing
	// moves is cut earlier (streams.sweep).
	answerTimeout = 5 * time.Second
	// dialTimeout bounds a dial with its handshake.
	dialTimeout = time.Second
	// pooled is how many idle connections to one peer are kept. Two are in use
	// between a leader and each follower; each costs 256 KiB at either end.
	pooled = 1
)

// transport is raft's own, over streams.
type transport struct {
	*raft.NetworkTransport
	streams *streams
	hazards Hazards
}

func newTransport(streams *streams, logger hclog.Logger, hazards Hazards) *transport {
	return &transport{streams: streams, hazards: hazards,
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: streams, MaxPool: pooled, MaxRPCsInFlight: 2, Timeout: answerTimeout, Logger: logger})}
}

// SetHeartbeatHandler does nothing, so that heartbeats go through the main
// loop like all else (raft issue 695: handled beside it they break log
// matching).
func (t *transport) SetHeartbeatHandler(handler func(raft.RPC)) {
	if t.hazards.HeartbeatsBeside {
		t.NetworkTransport.SetHeartbeatHandler(handler)
	}
}

// RequestVote asks once more when an old connection turned out to be dead: a
// vote that is lost costs a whole election timeout. Asking twice for the same
// vote is harmless.
func (t *transport) RequestVote(id raft.ServerID, at raft.ServerAddress,
	req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.again(at, func() error { return t.NetworkTransport.RequestVote(id, at, req, resp) })
}

// RequestPreVote is like RequestVote.
func (t *transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.again(at, func() error { return t.NetworkTransport.RequestPreVote(id, at, req, resp) })
}

// TimeoutNow is like RequestVote.
func (t *transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress,
	req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.again(at, func() error { return t.NetworkTransport.TimeoutNow(id, at, req, resp) })
}

func (t *transport) again(at raft.ServerAddress, ask func() error) error {
	used := t.streams.dialled(at)
	err := ask()
	if err != nil && used {
		return ask()
	}
	return err
}

// elect has this replica stand for election now instead of after a heartbeat
// timeout, by the message with which a leader hands over its office. Only
// right while it is the only voter.
func (t *transport) elect(self Identity) error {
	at := raft.ServerAddress(self.Addr)
	defer t.streams.cutTo(at)
	return t.NetworkTransport.TimeoutNow(raft.ServerID(self.ID), at, &raft.TimeoutNowRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self.ID), Addr: []byte(self.Addr)},
	}, new(raft.TimeoutNowResponse))
}
