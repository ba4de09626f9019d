package replica

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// errNobody is what a group of one voter gets from everybody else.
var errNobody = errors.New("this transport reaches nobody")

// loop is the transport of a group of one voter: it knows its own address and
// reaches nobody.
type loop struct {
	addr raft.ServerAddress
	rpcs chan raft.RPC
}

func newLoop(addr string) *loop {
	return &loop{addr: raft.ServerAddress(addr), rpcs: make(chan raft.RPC, 1)}
}

// elect has this replica stand for election now instead of after a heartbeat
// timeout, by the message with which a leader hands over its office. Only
// right while it is the only voter.
func (l *loop) elect(self Identity) {
	answer := make(chan raft.RPCResponse, 1) // raft answers into it, nobody reads
	l.rpcs <- raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self.ID), Addr: []byte(self.Addr)}},
		RespChan: answer,
	}
}

func (l *loop) Consumer() <-chan raft.RPC     { return l.rpcs }
func (l *loop) LocalAddr() raft.ServerAddress { return l.addr }

// SetHeartbeatHandler does nothing, so that heartbeats go through the main
// loop like all else (raft issue 695: handled beside it they break log
// matching).
func (l *loop) SetHeartbeatHandler(func(raft.RPC)) {}

func (l *loop) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }
func (l *loop) DecodePeer(b []byte) raft.ServerAddress                     { return raft.ServerAddress(b) }

func (l *loop) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, errNobody
}

func (l *loop) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return errNobody
}

func (l *loop) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return errNobody
}

func (l *loop) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	return errNobody
}

func (l *loop) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errNobody
}

func (l *loop) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return errNobody
}
