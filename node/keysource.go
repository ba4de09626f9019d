package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloakroom/securemem/keyring"
)

// keySource is where a node that came up without its keys gets them from.
type keySource struct {
	// brought holds the keyring that custodians unsealed here.
	brought   chan *keyring.Keyring
	unsealing unsealing
}

func newKeySource() keySource { return keySource{brought: make(chan *keyring.Keyring, 1)} }

// bring gives the node the keys that custodians unsealed. It returns false if
// it has some already; then keys stay the caller's.
func (s *keySource) bring(keys *keyring.Keyring) bool {
	select {
	case s.brought <- keys:
		return true
	default:
		return false
	}
}

// leaveKeys wipes keys that were brought and not taken any more.
func (s *keySource) leaveKeys() {
	select {
	case keys := <-s.brought:
		keys.Close()
	default:
	}
}

// askEvery is how often a sealed node asks the others for the keys.
const askEvery = time.Second

// awaitKeys returns once the node has its keys: from another node, which hands
// them over, or from its custodians.
func (n *Node) awaitKeys(ctx context.Context) error {
	n.setStage(Sealed)
	pause := time.NewTicker(askEvery)
	defer pause.Stop()
	for {
		keys, err := n.askForKeys(ctx)
		if errors.Is(err, errRemoved) {
			n.setStage(Removed)
			return err
		}
		if err != nil {
			return err
		}
		if keys != nil {
			return n.useKeys(keys, false)
		}
		select {
		case keys := <-n.brought:
			return n.useKeys(keys, true)
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the keys: %w", ctx.Err())
		}
	}
}

// errRemoved is the last word to a node that the cluster has removed.
var errRemoved = errors.New("this node was removed from the cluster: give it a new join token to join anew")
