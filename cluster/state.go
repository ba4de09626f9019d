package cluster

import (
	"cloakroom/cluster/replica"
	"cloakroom/cluster/state"
)

// StateMachine fits the shard machine to what a shard drives, for
// [Config.Machine].
func StateMachine(m *state.Machine) Machine { return stateMachine{m} }

type stateMachine struct{ *state.Machine }

// Snapshot implements [Machine]. A nil *state.View must not become a View.
func (m stateMachine) Snapshot() (replica.View, error) {
	view, err := m.Machine.Snapshot()
	if err != nil {
		return nil, err
	}
	return view, nil
}
