package node

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
	"cloakroom/node/entry"
	"cloakroom/node/folder"
	"cloakroom/securemem/keyring"
)

// join has a node without a cluster taken into one by its join token. A node
// that has joined before goes on, and needs none.
func (n *Node) join(ctx context.Context) error {
	if node := n.folder.Node(); node.Joined() {
		if err := n.recall(); err != nil {
			return err
		}
		if len(n.cfg.JoinToken) > 0 {
			n.cfg.Logger.Info("this node has joined a cluster before: the join token is not used", "cluster", directory.ID(node.Cluster).String())
		}
		return nil
	}
	n.setStage(Joining)
	if len(n.cfg.JoinToken) == 0 {
		return errors.New("this node belongs to no cluster yet: found one with 'cloakroom node init', or join one with --join-token-file")
	}
	return n.enterByToken(ctx)
}

// enterByToken shows the join token at its addresses, again and again, until
// one lets this node in, one refuses for good, or ctx ends. The folder knows
// the cluster once it returns.
func (n *Node) enterByToken(ctx context.Context) error {
	token, err := entry.ParseToken(n.cfg.JoinToken)
	if err != nil {
		return err
	}
	defer token.Wipe()
	if err := n.openTLSKey(); err != nil {
		return err
	}
	request, err := n.enterRequest(token)
	if err != nil {
		return err
	}
	defer clear(request)
	complained := false
	for {
		faults := make([]error, 0, len(token.Addresses))
		for _, addr := range token.Addresses {
			done, err := n.enterAt(ctx, token, addr, request)
			if done {
				return err
			}
			faults = append(faults, err)
		}
		if !complained {
			complained = true
			n.cfg.Logger.Warn("not let in yet; trying on", "error", errors.Join(faults...))
		}
		timer := time.NewTimer(askEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(append(faults, ctx.Err())...)
		}
	}
}

// enterRequest says who this node is, and proves that it has its TLS key.
func (n *Node) enterRequest(token *entry.Token) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, n.papers.key)
	if err != nil {
		return nil, fmt.Errorf("make request for a certificate: %w", err)
	}
	conf := n.cfg.Network
	address, err := conf.reachable()
	if err != nil {
		return nil, err
	}
	req := wire.EnterRequest{Secret: token.Secret, Node: n.cfg.Name, Address: address, Zone: conf.Zone, API: conf.API,
		RecoveryMode: n.cfg.RecoveryMode, Shards: uint16(n.cfg.Shards), Replication: uint16(n.cfg.Replication), Certificate: csr}
	defer clear(req.Secret[:])
	return req.Append(nil), nil
}

// enterAt asks one node to be let in. done: the answer is final.
func (n *Node) enterAt(ctx context.Context, token *entry.Token, addr string, request []byte) (done bool, err error) {
	body, root, err := cluster.Knock{Addr: addr, Pin: token.Pin, Now: n.now}.Ask(ctx, request)
	if err != nil {
		if errors.Is(err, cluster.ErrPin) {
			return true, fmt.Errorf("the join token is of another cluster, or somebody is in between: %w", err)
		}
		return false, err
	}
	var reply wire.EnterReply
	if err := reply.Decode(body); err != nil {
		return false, fmt.Errorf("join at %s: %w", addr, err)
	}
	if reply.Verdict != wire.Granted {
		return reply.Verdict.Final(), &Refusal{Verdict: reply.Verdict, By: addr, Text: reply.Text}
	}
	if reply.Cluster != token.Cluster {
		return true, fmt.Errorf("join at %s: it is of another cluster than the token", addr)
	}
	return true, n.entered(&reply, addr, root)
}

// entered keeps what a cluster gave this node. The key was on disk before it
// was registered; the cluster's name comes last, and with it the node belongs
// to it.
func (n *Node) entered(reply *wire.EnterReply, addr string, shown *x509.Certificate) error {
	root, err := x509.ParseCertificate(reply.Root)
	if err != nil {
		return fmt.Errorf("join at %s: read root certificate: %w", addr, err)
	}
	if cert.KeyDigest(root) != cert.KeyDigest(shown) {
		return fmt.Errorf("join at %s: the root it gives has not the key it has shown", addr)
	}
	n.id = directory.ID(reply.Cluster)
	if err := n.keepPapers(slices.Clone(reply.Certificate), slices.Clone(reply.Root)); err != nil {
		return fmt.Errorf("join at %s: %w", addr, err)
	}
	own, _ := n.cfg.Network.reachable()
	peers := slices.DeleteFunc(append([]string{addr}, reply.Peers...), func(peer string) bool { return peer == own })
	slices.Sort(peers)
	peers = slices.Compact(peers)
	err = n.folder.Update(func(node *folder.Node) {
		node.Cluster, node.Peers = folder.Cluster(reply.Cluster), slices.Clone(peers[:min(len(peers), folder.MaxPeers)])
	})
	if err != nil {
		return err
	}
	n.cfg.Logger.Info("joined the cluster", "cluster", n.id.String(), "by", addr, "fingerprint", n.Fingerprint(), "pending", reply.Pending)
	return nil
}

// askForKeys asks each of the others once for the keys. It returns no keys if
// nobody gives them now, and an error where asking again can't help.
func (n *Node) askForKeys(ctx context.Context) (*keyring.Keyring, error) {
	var pending, final *Refusal
	others := n.others()
	for _, addr := range others {
		keys, err := n.askKeysAt(ctx, addr)
		if err == nil {
			return keys, nil
		}
		n.cfg.Logger.Debug("no keys yet", "at", addr, "error", err)
		var refusal *Refusal
		switch {
		case !errors.As(err, &refusal):
		case refusal.Verdict == wire.Unadmitted:
			pending = refusal
		case refusal.Verdict.Final():
			final = refusal
		}
	}
	switch {
	case final != nil && final.Verdict == wire.Stranger:
		return nil, n.removed(ctx, final)
	case final != nil:
		return nil, final
	case pending != nil && n.Stage() != Pending:
		n.setStage(Pending)
		n.cfg.Logger.Warn("this node waits to be admitted", "fingerprint", n.Fingerprint(), "reason", pending.Text)
	}
	return nil, nil
}

// removed is what becomes of a node that the cluster has removed: with a new
// token it joins anew, in its old folder.
func (n *Node) removed(ctx context.Context, why *Refusal) error {
	if len(n.cfg.JoinToken) == 0 || n.gate.rejoined {
		return errors.Join(errRemoved, why)
	}
	n.gate.rejoined = true // a token is good for one entry
	n.cfg.Logger.Warn("this node was removed from the cluster, and joins it anew by its token", "reason", why.Text)
	if err := n.enterByToken(ctx); err != nil {
		return errors.Join(errRemoved, err)
	}
	return nil
}
