package replica

import (
	"io"
	"sync"
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
	// pooled is how many idle connections to one peer are kept. raft takes
	// 256 KiB for each at either end.
	pooled = 1
	// laneWait is how long entries and heartbeats for one peer wait for each
	// other instead of taking a second connection.
	laneWait = 100 * time.Millisecond
	// restAfter is the least time between two snapshots for one peer: one that
	// rejects all that follows would be sent the whole state without a pause.
	restAfter = 50 * time.Millisecond
)

// transport is raft's own, over streams.
type transport struct {
	*raft.NetworkTransport
	streams *streams
	hazards Hazards

	mu    sync.Mutex
	lanes map[raft.ServerAddress]chan struct{} // hold a token while the one connection is in use
	rests map[raft.ServerAddress]*time.Timer   // run out when the next snapshot may go there
}

func newTransport(streams *streams, logger hclog.Logger, hazards Hazards) *transport {
	return &transport{streams: streams, hazards: hazards,
		lanes: make(map[raft.ServerAddress]chan struct{}), rests: make(map[raft.ServerAddress]*time.Timer),
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: streams, MaxPool: pooled, Timeout: answerTimeout, Logger: logger,
			// No pipeline: with one entry in flight there is nothing to
			// overlap, and it takes two goroutines and a connection.
			MaxRPCsInFlight: 1})}
}

// SetHeartbeatHandler does nothing, so that heartbeats go through the main
// loop like all else (raft issue 695: handled beside it they break log
// matching).
func (t *transport) SetHeartbeatHandler(handler func(raft.RPC)) {
	if t.hazards.HeartbeatsBeside {
		t.NetworkTransport.SetHeartbeatHandler(handler)
	}
}

// AppendEntries asks once more when an old connection turned out to be dead:
// raft itself would wait for a commit timeout, and a vote that is lost costs a
// whole election timeout. Asking twice for the same is harmless, always.
//
// Heartbeats and entries share a connection while both are quick: the other's
// main loop answers one after the other anyway. A large batch on a slow line
// must not hold up heartbeats, so they wait for it only so long.
func (t *transport) AppendEntries(id raft.ServerID, at raft.ServerAddress,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	lane := t.lane(at)
	select {
	case lane <- struct{}{}:
		defer func() { <-lane }()
	default:
		timer := time.NewTimer(laneWait)
		defer timer.Stop()
		select {
		case lane <- struct{}{}:
			defer func() { <-lane }()
		case <-timer.C:
		}
	}
	return t.again(at, func() error { return t.NetworkTransport.AppendEntries(id, at, req, resp) })
}

func (t *transport) lane(at raft.ServerAddress) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	lane := t.lanes[at]
	if lane == nil {
		lane = make(chan struct{}, 1)
		t.lanes[at] = lane
	}
	return lane
}

// InstallSnapshot waits until the last snapshot for that peer is restAfter ago.
func (t *transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress,
	req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, state io.Reader) error {
	t.mu.Lock()
	rest := t.rests[at]
	delete(t.rests, at)
	t.mu.Unlock()
	if rest != nil {
		select {
		case <-rest.C:
		case <-t.streams.ended:
			return errCutOff
		}
	}
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.rests[at] = time.NewTimer(restAfter)
	}()
	return t.NetworkTransport.InstallSnapshot(id, at, req, resp, state)
}

// RequestVote asks without a name, so that the other does not look it up in
// its configuration: one that has not heard yet that the candidate was promoted
// would refuse it. When the leader dies right after a promotion, that one's
// vote can be the only one left (a voter grants its vote to whoever asks with a
// new enough log: Ongaro's thesis, 4.1). Otherwise like AppendEntries.
func (t *transport) RequestVote(id raft.ServerID, at raft.ServerAddress,
	req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	nameless := *req
	if !t.hazards.VotersByName {
		nameless.ID = nil
	}
	return t.again(at, func() error { return t.NetworkTransport.RequestVote(id, at, &nameless, resp) })
}

// RequestPreVote is like RequestVote. Without a name raft refuses here, so a
// refusal is answered by asking once more in the name of the other itself,
// which it finds in its configuration.
func (t *transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := t.again(at, func() error { return t.NetworkTransport.RequestPreVote(id, at, req, resp) })
	if err != nil || resp.Granted || resp.Term > req.Term || t.hazards.VotersByName {
		return err
	}
	renamed := *req
	renamed.ID = []byte(id)
	*resp = raft.RequestPreVoteResponse{}
	return t.again(at, func() error { return t.NetworkTransport.RequestPreVote(id, at, &renamed, resp) })
}

// TimeoutNow is like AppendEntries.
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
