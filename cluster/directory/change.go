package directory

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"cloakroom"
)

// change carries out cmd on next, a shallow copy of the view before: it
// replaces what it changes and writes into nothing shared.
func change(next *View, cmd *Command) Result {
	if cmd.Init != nil {
		return initialise(next, cmd.Init)
	}
	if next.Epoch == 1 {
		return invalid("the first command must be init")
	}
	switch {
	case cmd.SetSchema != nil:
		return setSchema(next, cmd.SetSchema)
	case cmd.PutPrincipal != nil:
		return putPrincipal(next, cmd.PutPrincipal)
	case cmd.RevokePrincipal != nil:
		return revokePrincipal(next, cmd.RevokePrincipal)
	case cmd.SuspendPrincipal != nil:
		return suspendPrincipal(next, cmd.SuspendPrincipal)
	case cmd.RequestPrincipal != nil:
		return requestPrincipal(next, cmd.RequestPrincipal)
	case cmd.ApprovePrincipal != nil:
		return approvePrincipal(next, cmd.ApprovePrincipal)
	case cmd.PutDomain != nil:
		return putDomain(next, cmd.PutDomain.Name)
	case cmd.SetSettings != nil:
		return setSettings(next, *cmd.SetSettings)
	case cmd.SetSlots != nil:
		return setSlots(next, cmd.SetSlots)
	case cmd.SetKeyring != nil:
		return setKeyring(next, cmd.SetKeyring)
	case cmd.SetRecovery != nil:
		return setRecovery(next, cmd.SetRecovery)
	case cmd.NextSealing != nil:
		return nextSealing(next)
	}
	return changeResidents(next, cmd)
}

// changeResidents carries out what concerns nodes and replicas.
func changeResidents(next *View, cmd *Command) Result {
	switch {
	case cmd.PutNode != nil:
		return putNode(next, cmd.PutNode)
	case cmd.AdmitNode != nil:
		return admitNode(next, cmd.AdmitNode)
	case cmd.DrainNode != nil:
		return drainNode(next, cmd.DrainNode)
	case cmd.RemoveNode != nil:
		return removeNode(next, cmd.RemoveNode)
	case cmd.PutJoinToken != nil:
		return putJoinToken(next, cmd.PutJoinToken)
	case cmd.UseJoinToken != nil:
		return useJoinToken(next, cmd.UseJoinToken)
	case cmd.AddReplica != nil:
		return addReplica(next, cmd.AddReplica)
	case cmd.SetReplica != nil:
		return setReplica(next, cmd.SetReplica)
	case cmd.RefoundGroup != nil:
		return refoundGroup(next, cmd.RefoundGroup)
	default:
		return dropReplica(next, cmd.DropReplica)
	}
}

func invalid(detail string) Result  { return Result{Code: Invalid, Detail: detail} }
func conflict(detail string) Result { return Result{Code: Conflict, Detail: detail} }
func notFound(detail string) Result { return Result{Code: NotFound, Detail: detail} }
func already() Result               { return Result{Code: Already} }

func initialise(next *View, cmd *Init) Result {
	if next.Epoch != 1 {
		return conflict("the cluster is initialised already")
	}
	if cmd.ClusterID == (ID{}) {
		return invalid("the cluster id is empty")
	}
	if fault := cmd.Settings.fault(); fault != "" {
		return invalid(fault)
	}
	if fault := nodesFault(cmd.Nodes); fault != "" {
		return invalid(fault)
	}
	for i := range cmd.Nodes {
		if cmd.Nodes[i].State != Member || cmd.Nodes[i].Life == "" {
			return invalid("a new cluster has members only")
		}
	}
	next.ClusterID, next.Settings = cmd.ClusterID, cmd.Settings
	next.Nodes, next.Directory, next.Shards = cmd.Nodes, cmd.Directory, cmd.Shards
	if fault := next.foundingFault(); fault != "" {
		return invalid(fault)
	}
	next.Domains = []DomainInfo{{Number: cloakroom.DefaultDomain, Name: "default"}}
	next.SlotTable = new([cloakroom.Slots]cloakroom.ShardID)
	for slot := range next.SlotTable {
		// Contiguous runs, so that a slot range can be named in one line.
		next.SlotTable[slot] = cloakroom.ShardID(slot * len(cmd.Shards) / cloakroom.Slots)
	}
	next.indexed()
	return Result{}
}

// foundingFault returns what is wrong with the groups of a new cluster, or "",
// and notes that they changed now.
func (v *View) foundingFault() string {
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for i := range group.Replicas {
			if r := &group.Replicas[i]; !v.Lives(r) || r.State == Leaving {
				return g.String() + ": a new cluster has replicas of living nodes only, none of them leaving"
			}
		}
		if group.Changed != 0 {
			return g.String() + ": changed before there was a cluster"
		}
	}
	v.Directory.Changed = v.Epoch
	for i := range v.Shards {
		v.Shards[i].Changed = v.Epoch
	}
	return v.groupsFault()
}

func setSchema(next *View, cmd *SetSchema) Result {
	if cmd.ExpectedEpoch != next.Schema.Epoch {
		return conflict(fmt.Sprintf("the schema is at epoch %d", next.Schema.Epoch))
	}
	schema, faults := next.Schema.evolve(cmd.Fields)
	if len(faults) > 0 {
		return invalid(describe(faults))
	}
	next.Schema = schema
	return Result{}
}

// describe lists faults for the operator.
func describe(faults cloakroom.Faults) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Reason
		if f.Item >= 0 {
			lines[i] = fmt.Sprintf("field %d: %s", f.Item, f.Reason)
		}
	}
	return strings.Join(lines, "; ")
}

func putPrincipal(next *View, put *Principal) Result {
	p := *put
	p.Grant = p.Grant.normal()
	if fault := p.fault(next); fault != "" {
		return invalid("principal: " + fault)
	}
	if holder := next.byCredential[p.Credential]; holder != nil && (holder.Name != p.Name || holder.Revoked) {
		return conflict("the credential is taken")
	}
	at, there := next.principalAt(p.Name)
	next.Principals = slices.Clone(next.Principals)
	switch {
	case there && next.Principals[at].Revoked:
		return conflict("the principal was revoked; choose another name")
	case there:
		next.Principals[at] = &p
	case len(next.Principals) >= MaxPrincipals:
		return invalid(fmt.Sprintf("more than %d principals", MaxPrincipals))
	default:
		next.Principals = slices.Insert(next.Principals, at, &p)
	}
	next.indexPrincipals()
	return Result{}
}

func putDomain(next *View, name string) Result {
	switch {
	case !validName(name):
		return invalid("domain: malformed name")
	case len(next.Domains) >= MaxDomains:
		return Result{Code: Exhausted, Detail: fmt.Sprintf("more than %d domains", MaxDomains)}
	}
	if _, taken := next.byDomain[name]; taken {
		return conflict("the domain is there already")
	}
	number := cloakroom.Domain(len(next.Domains))
	next.Domains = append(slices.Clone(next.Domains), DomainInfo{Number: number, Name: name})
	next.indexDomains()
	return Result{Domain: number}
}

func setSettings(next *View, s Settings) Result {
	if fault := s.fault(); fault != "" {
		return invalid(fault)
	}
	if s.LeaseMillis != next.Settings.LeaseMillis {
		// A new leader waits for its predecessors' leases without knowing them.
		return invalid("settings: the length of leases is fixed when the cluster is founded")
	}
	if s.SinglePerson != next.Settings.SinglePerson {
		return invalid("settings: whether one person may do everything is fixed when the cluster is founded")
	}
	next.Settings = s
	return Result{}
}

func setSlots(next *View, cmd *SetSlots) Result {
	if len(cmd.Slots) != cloakroom.Slots {
		return invalid(fmt.Sprintf("want %d slots", cloakroom.Slots))
	}
	table := new([cloakroom.Slots]cloakroom.ShardID)
	for slot, shard := range cmd.Slots {
		if int(shard) >= len(next.Shards) {
			return invalid("a slot names an unknown shard")
		}
		table[slot] = shard
	}
	next.SlotTable = table
	return Result{}
}

func setKeyring(next *View, cmd *SetKeyring) Result {
	if cmd.Version != next.KeyringVersion+1 {
		return conflict(fmt.Sprintf("the keyring is at version %d", next.KeyringVersion))
	}
	if cmd.Hash == (Digest{}) {
		return invalid("the keyring hash is empty")
	}
	next.KeyringVersion, next.KeyringHash = cmd.Version, cmd.Hash
	return Result{}
}

func setRecovery(next *View, cmd *Recovery) Result {
	if fault := cmd.fault(); fault != "" {
		return invalid(fault)
	}
	next.Recovery = cmd
	return Result{}
}

const (
	maxRecoveryShares = 32
	maxRecipient      = 4 << 10 // bytes
)

// fault returns what is wrong with r, or "".
func (r *Recovery) fault() string {
	switch {
	case !strings.HasPrefix(r.Recipient, "age1") || len(r.Recipient) > maxRecipient:
		return "recovery: the recipient is none of age"
	case len(r.Shares) == 0 || len(r.Shares) > maxRecoveryShares:
		return fmt.Sprintf("recovery: want 1 to %d shares", maxRecoveryShares)
	case r.Threshold < 1 || r.Threshold > len(r.Shares):
		return "recovery: the threshold must be 1 to the number of shares"
	}
	return ""
}

func nextSealing(next *View) Result {
	if next.SealingNumber == math.MaxUint32 {
		return Result{Code: Exhausted, Detail: "all sealing numbers are handed out; rotate the keyring"}
	}
	next.SealingNumber++
	return Result{SealingNumber: next.SealingNumber}
}

// fault returns what is wrong with the settings, or "".
func (s *Settings) fault() string {
	switch {
	case s.Replication != 1 && s.Replication != 3:
		return "settings: replication must be 1 or 3"
	case !slices.Contains([]string{"continuous", "periodic", "none"}, s.RecoveryMode):
		return "settings: recovery mode must be continuous, periodic or none"
	case s.DeadAfterSec > 24*3600:
		return "settings: a node is not waited for longer than a day"
	case s.LeaseMillis < 1000 || s.LeaseMillis > 60_000:
		return "settings: the lease must be 1 s to 60 s"
	}
	return ""
}
