package cluster

import (
	"context"
	"sync"
	"time"

	"cloakroom/cluster/confirm"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// pulse is when each node was last heard, and what it said of its memory.
type pulse struct {
	mu    sync.Mutex
	nodes map[string]*vitals
}

// vitals are what a node last said of itself.
type vitals struct {
	life    string   // that was registered then
	first   int64    // the tick at which that life was first known here
	spoke   bool     // it was heard at all
	old     bool     // it registered before this node came to lead the directory
	tick    int64    // when last: ticks go on however clocks are set
	free    int64    // record memory, bytes
	limit   int64    // 0: not known
	granted int64    // what this node had granted when it asked
	leads   []uint32 // groups, when it was last asked
}

// alive is how many ticks a node counts as there after it was heard.
const alive = 2

// heard notes an answer of a node. limit 0: it said nothing of its memory.
func (c *Cluster) heard(node string, granted, free, limit int64) {
	info, there := c.Directory().Node(node)
	if !there {
		return
	}
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.of(&info, c.ticked.Load())
	v.spoke, v.tick = true, c.ticked.Load()
	if limit > 0 {
		v.free, v.limit, v.granted = free, limit, granted
	}
}

// of returns what is known of the registered life of a node. Its caller holds
// p.mu.
func (p *pulse) of(info *directory.NodeInfo, tick int64) *vitals {
	v := p.nodes[info.Name]
	if v == nil || v.life != info.Life {
		v = &vitals{life: info.Life, first: tick}
		p.nodes[info.Name] = v
	}
	return v
}

// succeed has those count as silent that were not heard here so far: this node
// has just come to lead the directory, and may not have listened before.
func (p *pulse) succeed(view *directory.View, tick int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range view.Nodes {
		if n := &view.Nodes[i]; n.Seated() {
			p.of(n, tick).old = true
		}
	}
}

// there reports whether the registered life of a node was heard lately.
func (c *Cluster) there(info *directory.NodeInfo) bool {
	if info.Name == c.cfg.Node {
		return info.Life == c.life
	}
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.nodes[info.Name]
	return v != nil && v.life == info.Life && v.spoke && c.ticked.Load()-v.tick <= alive
}

// listen runs one confirm round for all groups led here, which brings the
// others' clocks and memory, and pings the nodes that it did not reach.
func (c *Cluster) listen(ctx context.Context) {
	var others sync.WaitGroup
	tick := c.ticked.Load()
	if want := c.ledGroups(nil); len(want) > 0 {
		c.rounds.Confirm(ctx, want, make([]bool, len(want)))
	}
	deciding, _ := c.desk.lead() // it wants to know who leads what
	for _, info := range c.Directory().Nodes {
		if info.Name != c.cfg.Node && info.Seated() && info.Address != "" && (deciding != nil || !c.heardSince(info.Name, tick)) {
			others.Go(func() { c.ping(ctx, info.Name) }) // ends with ctx or its own time
		}
	}
	others.Wait()
}

// ledGroups appends the groups that this node leads, and their terms.
func (c *Cluster) ledGroups(dst []confirm.Want) []confirm.Want {
	for g := range c.Directory().Groups() {
		if group := c.group(g); group != nil {
			if m, term := group.lead(); m != nil {
				dst = append(dst, confirm.Want{Group: uint32(g), Term: term})
			}
		}
	}
	return dst
}

// heardSince reports whether a node has answered since a tick.
func (c *Cluster) heardSince(node string, tick int64) bool {
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.nodes[node]
	return v != nil && v.spoke && v.tick >= tick
}

// ping asks a node how it is, by a confirm request without a question.
func (c *Cluster) ping(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, timeStep/2)
	defer cancel()
	c.askToConfirm(ctx, node, nil) //nolint:errcheck // silence is the answer
}

// askToConfirm puts the questions of a round to a node.
func (c *Cluster) askToConfirm(ctx context.Context, node string, questions []confirm.Question) (confirm.Answer, error) {
	granted := c.granted.Load() // before the node looks at its memory
	request := wire.BeginConfirm(nil)
	for i := range questions {
		q := &questions[i]
		request = wire.AppendQuestion(request, q.Group, q.Replica, q.Term)
	}
	wire.EndConfirm(request, len(questions))
	var reply wire.ConfirmReply
	if err := c.net.ask(ctx, node, wire.Confirm, request, &reply); err != nil {
		return confirm.Answer{}, err
	}
	c.heard(node, granted, reply.Free, reply.Limit)
	if len(questions) == 0 {
		c.leading(node, reply.Leads)
	}
	return confirm.Answer{Yes: reply.Yes, Now: time.UnixMilli(reply.Now), Free: reply.Free, Limit: reply.Limit}, nil
}

// led is what a confirm round needs to know of a group led here.
func (c *Cluster) led(number uint32) (confirm.Lead, bool) {
	g := c.group(directory.GroupID(number))
	if g == nil {
		return confirm.Lead{}, false
	}
	m, term := g.lead()
	if m == nil {
		return confirm.Lead{}, false
	}
	voters, ok := c.votersOf(m)
	return confirm.Lead{Term: term, Self: m.self.ID, Voters: voters}, ok
}

// electorate is the voters of one configuration, as rounds want them.
type electorate struct {
	latest *replica.Member // first of the configuration, which is made anew, never changed
	epoch  uint64          // of the directory that named the nodes
	voters []confirm.Voter
}

// votersOf returns the voters of the latest configuration of m's group.
func (c *Cluster) votersOf(m *member) ([]confirm.Voter, bool) {
	_, members, err := m.replica.Members()
	if err != nil {
		return nil, false
	}
	// Not by its index: a newer leader may put another configuration there.
	latest := first(members)
	epoch := c.Directory().Epoch
	if e := m.voters.Load(); e != nil && e.latest == latest && e.epoch == epoch {
		return e.voters, true
	}
	e := &electorate{latest: latest, epoch: epoch}
	for i := range members {
		if members[i].Voter {
			e.voters = append(e.voters, confirm.Voter{Replica: members[i].ID, Node: c.nodeOf(members[i].ID)})
		}
	}
	m.voters.Store(e)
	return e.voters, true
}

// first returns where a configuration begins, nil if it has no members.
func first(members []replica.Member) *replica.Member {
	if len(members) == 0 {
		return nil
	}
	return &members[0]
}

// inTerm answers a question of a round about a replica of this node.
func (c *Cluster) inTerm(q confirm.Question) bool {
	return c.stillIn(q.Group, []byte(q.Replica), q.Term)
}

// stillIn reports whether that very replica lives here, in service, and has
// seen no later term.
func (c *Cluster) stillIn(number uint32, replica []byte, term uint64) bool {
	g := c.group(directory.GroupID(number))
	if g == nil {
		return false
	}
	m := g.member.Load()
	return m != nil && m.self.ID == string(replica) && m.serves() && m.replica.Term() <= term
}
