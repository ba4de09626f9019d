package node

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
	"cloakroom/node/entry"
)

// CreateJoinTokens makes tokens, each of which lets one node in, once, within
// ttl, in the name of the principal caller. The directory keeps what stands for
// them and never the tokens.
func (n *Node) CreateJoinTokens(ctx context.Context, caller string, ttl time.Duration, count int) ([]string, error) {
	if err := n.Stage().Err(); err != nil {
		return nil, err
	}
	token := entry.Token{Cluster: n.id, Addresses: n.meetingPoints()}
	defer token.Wipe()
	n.papers.mu.Lock()
	if n.papers.root != nil {
		token.Pin = cert.KeyDigest(n.papers.root)
	}
	n.papers.mu.Unlock()
	if len(token.Addresses) == 0 || token.Pin == [32]byte{} {
		return nil, fmt.Errorf("this node has no cluster port that others could join at: %w", cloakroom.ErrConflict)
	}
	now := n.now()
	token.Expires = now.Add(ttl).Truncate(time.Second)
	texts := make([]string, 0, count)
	for range count {
		text, err := n.createJoinToken(ctx, &token, caller, now)
		if err != nil {
			return nil, fmt.Errorf("create join token: %w", err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func (n *Node) createJoinToken(ctx context.Context, token *entry.Token, caller string, now time.Time) (string, error) {
	if _, err := io.ReadFull(rand.Reader, token.Secret[:]); err != nil {
		return "", fmt.Errorf("draw secret: %w", err)
	}
	text, err := token.Append(nil)
	if err != nil {
		return "", err
	}
	defer clear(text)
	hash, ok := n.joinHash(&token.Secret)
	if !ok {
		return "", cloakroom.ErrSealed
	}
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{PutJoinToken: &directory.PutJoinToken{
		Token: directory.JoinToken{Hash: hash, Expires: token.Expires.UnixMilli(), By: caller}, At: now.UnixMilli()}})
	if err == nil {
		err = result.Err()
	}
	return string(text), err
}

// meetingPoints are the cluster ports that a join token names: this node's and
// some others'.
func (n *Node) meetingPoints() []string {
	var points []string
	if addr := n.cluster.Addr(); addr != "" {
		points = append(points, addr)
	}
	for _, addr := range n.addresses(n.cluster.Directory().Nodes) {
		if len(points) < entry.MaxAddresses {
			points = append(points, addr)
		}
	}
	return points
}

// joinHash returns what the directory knows a join token by. false: this node
// has no keys now.
func (n *Node) joinHash(secret *[entry.SecretBytes]byte) (hash directory.Digest, ok bool) {
	n.giving.RLock()
	defer n.giving.RUnlock()
	if n.gate.keyed.Load() == nil {
		return hash, false
	}
	digest := entry.Digest(secret)
	n.keys.CredentialMAC((*[32]byte)(&hash), &digest)
	return hash, true
}

// Admit lets a node have the keys, by word of the principal caller, who has
// compared the fingerprint with what the node itself shows.
func (n *Node) Admit(ctx context.Context, caller, name, fingerprint string) error {
	if err := n.Stage().Err(); err != nil {
		return err
	}
	key, err := cert.ParseFingerprint(fingerprint)
	if err != nil {
		return fmt.Errorf("admit node: %w: %w", err, cloakroom.ErrMalformed)
	}
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{AdmitNode: &directory.AdmitNode{
		Name: name, Key: key, At: n.now().UnixMilli()}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("admit node: %w", err)
	}
	n.cfg.Logger.Info("a node was admitted and may have the keys", "node", name, "by", caller)
	return nil
}

// welcome answers somebody who has a join token and no certificate, or has
// neither: request may be anything.
func (n *Node) welcome(ctx context.Context, from string, request []byte) []byte {
	var req wire.EnterRequest
	defer func() { clear(req.Secret[:]) }()
	reply := wire.EnterReply{Verdict: wire.Unreadable, Text: "this version cannot read the request: are both of one release?"}
	if err := req.Decode(request); err == nil {
		reply = n.letIn(ctx, &req)
	}
	n.gate.entries.count(reply.Verdict)
	switch reply.Verdict {
	case wire.Granted:
		n.cfg.Logger.Info("a node has joined", "node", req.Node, "from", from, "pending", reply.Pending)
	case wire.UsedToken:
		n.cfg.Logger.Warn("a join token was used a second time: whoever has it should not", "from", from)
	case wire.NotNow:
	default:
		n.cfg.Logger.Warn("a node was not let in", "from", from, "verdict", reply.Verdict.String())
	}
	return reply.Append(nil)
}

// letIn decides about a request to join. What it says about a token it says
// only to who has it.
func (n *Node) letIn(ctx context.Context, req *wire.EnterRequest) (reply wire.EnterReply) {
	refuse := func(v wire.Verdict, text string) wire.EnterReply { return wire.EnterReply{Verdict: v, Text: text} }
	hash, ok := n.joinHash(&req.Secret)
	if !ok || n.cluster.Directory().Epoch == 0 {
		return refuse(wire.NotNow, "this node is sealed or starting")
	}
	if !n.knowsToken(ctx, hash) {
		return refuse(wire.BadToken, "the join token is not known: it is of another cluster, or ended long ago. Make a new one with 'cloakroom join-token create'")
	}
	verdict, text, info := n.register(ctx, hash, req)
	if verdict == wire.Granted {
		reply, verdict, text = n.certifyNew(info, req)
	}
	if err := n.recordEntry(ctx, req.Node, "node-enter", verdict); err != nil {
		return refuse(wire.NotNow, "the audit log cannot be written")
	}
	if verdict != wire.Granted {
		return refuse(verdict, text)
	}
	return reply
}

// tokenWait is for how long a token that is not known may be on its way here.
const tokenWait = 300 * time.Millisecond

// knowsToken reports whether the directory has that token, used or not. So
// nobody without one costs the directory a commit.
func (n *Node) knowsToken(ctx context.Context, hash directory.Digest) bool {
	known := func() bool {
		_, known := n.cluster.Directory().JoinToken(hash)
		return known
	}
	if known() {
		return true
	}
	timer := time.NewTimer(tokenWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return known()
}

// register uses the token up and registers the node, both or neither.
func (n *Node) register(ctx context.Context, hash directory.Digest, req *wire.EnterRequest) (wire.Verdict, string, directory.NodeInfo) {
	var none directory.NodeInfo
	if text := n.disagrees(req); text != "" {
		return wire.Differs, text, none
	}
	csr, err := readCSR(req.Certificate)
	if err != nil || cert.CheckNode(req.Node) != nil {
		return wire.Unreadable, "the request for a certificate is malformed, or its signature is wrong", none
	}
	info := directory.NodeInfo{Name: req.Node, Address: req.Address, Zone: req.Zone, API: req.API, Key: directory.Digest(cert.KeyDigest(csr))}
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{UseJoinToken: &directory.UseJoinToken{
		Hash: hash, At: n.now().UnixMilli(), Node: info}})
	if err != nil {
		return wire.NotNow, "the directory cannot be changed now", none
	}
	switch result.Code {
	case directory.Done, directory.Already:
		view := n.cluster.Directory()
		if registered, there := view.Node(req.Node); there && registered.Key == info.Key && registered.State != directory.Removed {
			return wire.Granted, "", registered
		}
		if !view.Settings.SinglePerson { // the view here is behind
			info.State = directory.Pending
		}
		return wire.Granted, "", info
	case directory.Used:
		return wire.UsedToken, result.Detail + ". Each lets in one node: make a new one", none
	case directory.Expired:
		return wire.OldToken, result.Detail + ". Make a new one with 'cloakroom join-token create'", none
	case directory.Conflict, directory.Exhausted:
		return wire.Taken, result.Detail, none
	case directory.NotFound:
		return wire.BadToken, result.Detail, none
	default:
		return wire.Unreadable, result.Detail, none
	}
}

// disagrees holds what a node's file says to what the cluster has decided.
func (n *Node) disagrees(req *wire.EnterRequest) string {
	view := n.cluster.Directory()
	for _, s := range []struct {
		name      string
		here, all int
	}{
		{"cluster.shards", int(req.Shards), len(view.Shards)},
		{"cluster.replication", int(req.Replication), view.Settings.Replication},
	} {
		if s.here != 0 && s.here != s.all {
			return fmt.Sprintf("%s is %d in the node's file and %d in the cluster, for good: take it out of the file, or say %d", s.name, s.here, s.all, s.all)
		}
	}
	if mode := view.Settings.RecoveryMode; req.RecoveryMode != "" && req.RecoveryMode != mode {
		return fmt.Sprintf("recovery.mode of the cluster is %s, and the node's file says something else: take it out of the file, or say %s", mode, mode)
	}
	return ""
}

// readCSR reads a request for a certificate and makes sure that its sender has
// the key. Only the key in it counts.
func readCSR(der []byte) (*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	return &x509.Certificate{RawSubjectPublicKeyInfo: csr.RawSubjectPublicKeyInfo, PublicKey: csr.PublicKey}, nil
}

// certifyNew makes the answer to a node that was registered.
func (n *Node) certifyNew(info directory.NodeInfo, req *wire.EnterRequest) (wire.EnterReply, wire.Verdict, string) {
	csr, err := readCSR(req.Certificate)
	if err != nil {
		return wire.EnterReply{}, wire.Unreadable, "the request for a certificate is malformed"
	}
	leaf, root, err := n.issueFor(info.Name, csr.RawSubjectPublicKeyInfo, hostsOf(info.Address, info.API))
	if err != nil {
		n.cfg.Logger.Error("cannot sign a certificate", "node", info.Name, "error", err)
		return wire.EnterReply{}, wire.NotNow, "the certificate could not be signed"
	}
	peers := n.meetingPoints()
	return wire.EnterReply{Verdict: wire.Granted, Cluster: n.id, Pending: info.State == directory.Pending,
		Certificate: leaf, Root: root, Peers: peers}, wire.Granted, ""
}

var errNoKeys = errors.New("this node has no keys")

// issueFor signs a certificate for another node, as long as there are keys.
func (n *Node) issueFor(name string, spki []byte, hosts []string) (leaf, root []byte, err error) {
	n.giving.RLock()
	defer n.giving.RUnlock()
	if n.gate.keyed.Load() == nil {
		return nil, nil, errNoKeys
	}
	return n.issue(name, spki, hosts)
}

// mayRenew says whether a node may have a new certificate: it must be
// registered, with the key that the connection and the request have.
func (n *Node) mayRenew(from cluster.Peer, spki []byte) (wire.Verdict, string) {
	if n.gate.keyed.Load() == nil {
		return wire.NotNow, "this node is sealed or starting"
	}
	info, there := n.registered(from.Node)
	key := cert.KeyDigest(&x509.Certificate{RawSubjectPublicKeyInfo: spki})
	switch {
	case !there:
		return wire.Stranger, "no node of that name is registered"
	case info.State == directory.Removed:
		return wire.Stranger, removedText
	case key != from.Key || info.Key != directory.Digest(key):
		return wire.Differs, "another TLS key is registered for the node"
	}
	return wire.Granted, ""
}

// removedText is what a node is told that comes back after its removal.
const removedText = "the node was removed from the cluster: give it a new join token to join anew, nothing has to be wiped by hand"
