package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloakroom/node"
)

// fleet is the nodes of one dev process. They share nothing but the process:
// each has its memory, its ports and its place in the cluster.
//
// A fleet is safe for concurrent use. mu is held for a glance at the seats;
// what takes time happens without it, in a seat that is marked as busy.
type fleet struct {
	config func() node.Config // of any node, without what its seat says
	hooks  *devHooks

	mu    sync.Mutex
	seats []*seat
}

// seat is a node's place in the fleet. It keeps name and addresses while the
// node is dead.
type seat struct {
	name    string
	listen  string // data address; with its port once there was one
	cluster string // cluster address, the same way; empty in a fleet of one
	node    *node.Node
	state   seatState
}

type seatState string

const (
	dead     seatState = "dead"
	starting seatState = "starting"
	alive    seatState = "alive"
	dying    seatState = "dying"
)

// newFleet seats n nodes: the first listens on address listen, the others on
// the ports after it, or all of them on any free one if it has port 0.
func newFleet(n int, listen string) (*fleet, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, errors.New("--listen: want HOST:PORT")
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port > 0 && port+uint64(n)-1 > 1<<16-1 {
		return nil, fmt.Errorf("--listen: want a port from 0 to %d", 1<<16-n)
	}
	f := &fleet{}
	for i := range n {
		s := &seat{name: fmt.Sprintf("n%d", i+1), listen: listen, state: dead}
		if port > 0 {
			s.listen = net.JoinHostPort(host, strconv.FormatUint(port+uint64(i), 10))
		}
		if n > 1 {
			s.cluster = "127.0.0.1:0" // they are all here
		}
		f.seats = append(f.seats, s)
	}
	return f, nil
}

// start brings all nodes up, the founder first. Their ports are taken before
// the first one starts.
func (f *fleet) start(ctx context.Context) error {
	doors := make([]net.Listener, len(f.seats))
	defer func() {
		for _, door := range doors {
			if door != nil {
				door.Close() //nolint:errcheck // not opened for anybody
			}
		}
	}()
	for i, s := range f.seats {
		var err error
		if doors[i], err = listen(ctx, s.listen, 0); err != nil {
			return err
		}
		s.listen = doors[i].Addr().String()
	}
	for i, s := range f.seats {
		s.state = starting
		if err := f.bringUp(ctx, s, doors[i]); err != nil {
			s.state = dead
			return err
		}
		s.state, doors[i] = alive, nil
	}
	return f.settle(ctx, nil)
}

// listen takes an address; one that was left a moment ago may need some time.
func listen(ctx context.Context, addr string, patience time.Duration) (net.Listener, error) {
	until := time.Now().Add(patience)
	for {
		door, err := net.Listen("tcp", addr)
		if err == nil {
			return door, nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("listen: %w (another address: --listen 127.0.0.1:0)", err)
		}
		if pause(ctx, settleStep) != nil {
			return nil, fmt.Errorf("listen: %w", ctx.Err())
		}
	}
}

// bringUp starts the node of a seat and opens its front door; door is taken
// over if all goes well. With no door it listens when the node is ready.
func (f *fleet) bringUp(ctx context.Context, s *seat, door net.Listener) error {
	cfg := f.config()
	cfg.Name, cfg.Beside = s.name, f.living()
	cfg.Memory.Share = len(f.seats)
	if s.cluster != "" {
		cfg.Network = &node.Network{Listen: s.cluster}
	}
	n, err := node.New(ctx, cfg)
	if err != nil {
		return err
	}
	if err := f.open(ctx, s, n, door); err != nil {
		return errors.Join(err, n.Kill())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.node = n
	if s.cluster != "" {
		s.cluster = n.ClusterAddr()
	}
	return nil
}

func (f *fleet) open(ctx context.Context, s *seat, n *node.Node, door net.Listener) error {
	if err := f.hooks.apply(n); err != nil {
		return err
	}
	if door != nil {
		return n.Serve(door)
	}
	door, err := listen(ctx, s.listen, 5*time.Second)
	if err != nil {
		return err
	}
	if err := n.Serve(door); err != nil {
		return errors.Join(err, door.Close())
	}
	return nil
}

// living returns the nodes that are alive.
func (f *fleet) living() (nodes []*node.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seats {
		if s.state == alive {
			nodes = append(nodes, s.node)
		}
	}
	return nodes
}

// settleStep is how often a fleet that is not settled is looked at.
const settleStep = 20 * time.Millisecond

// settle waits until every node that is alive is ready and, if all are, every
// group tolerates the loss of as many nodes as it can. tell, if not nil, is
// told how many groups do.
func (f *fleet) settle(ctx context.Context, tell func(done, of int)) error {
	for {
		done, of := f.settled()
		if tell != nil {
			tell(done, of)
		}
		if done == of {
			return nil
		}
		if pause(ctx, settleStep) != nil {
			return fmt.Errorf("%d of %d groups tolerate the loss of a node: %w", done, of, ctx.Err())
		}
	}
}

// settled counts the groups that are as they should be, by the node that sees
// the fewest of them.
func (f *fleet) settled() (done, of int) {
	nodes := f.living()
	want := 0
	if len(nodes) == len(f.seats) {
		want = (min(len(nodes), 3) - 1) / 2
	}
	done = -1
	for _, n := range nodes {
		h := n.Health()
		good := 0
		for _, g := range h.Groups {
			if g.Settled && g.Tolerates >= want {
				good++
			}
		}
		if done < 0 || good < done {
			done, of = good, len(h.Groups)
		}
		if !h.Ready && done == of {
			done--
		}
	}
	return done, of
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errNoNode is what an order about a node gets that there is not.
var errNoNode = errors.New("no such node")

// errUnsafe is what a kill gets that would cost a group its majority.
var errUnsafe = errors.New("not safe")

// claim marks the seat of a node as busy if its state is the wanted one.
func (f *fleet) claim(number int, want, then seatState) (*seat, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if number < 1 || number > len(f.seats) {
		return nil, fmt.Errorf("%w: this dev process has the nodes 1 to %d", errNoNode, len(f.seats))
	}
	s := f.seats[number-1]
	if s.state != want {
		return nil, fmt.Errorf("node %d is %s%s", number, s.state, map[seatState]string{
			dead: " already: restart brings it back", alive: " already: kill ends it",
			starting: " at this moment", dying: " at this moment"}[s.state])
	}
	s.state = then
	return s, nil
}

// leave gives a claimed seat another state, and its node up if that is dead.
func (f *fleet) leave(s *seat, state seatState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.state = state
	if state == dead {
		s.node = nil
	}
}

// kill ends a node like a crash. Unless forced it refuses when a group would
// lose its majority, which in memory alone nothing brings back.
func (f *fleet) kill(number int, force bool) error {
	s, err := f.claim(number, alive, dying)
	if err != nil {
		return err
	}
	if risk := f.atRisk(s); len(risk) > 0 && !force {
		f.leave(s, alive)
		return fmt.Errorf("%w: without node %d %s would lose the majority of %s replicas, for good; %s",
			errUnsafe, number, some(risk), whose(risk), f.remedy(s))
	}
	err = s.node.Kill()
	f.leave(s, dead)
	return err
}

// atRisk names the groups that would lose their majority with the node of s,
// and with nil those that have lost it. Who is alive the fleet knows, by name
// and life; what its nodes have heard of each other is seconds late.
func (f *fleet) atRisk(s *seat) (groups []string) {
	var nodes []*node.Node
	f.mu.Lock()
	for _, o := range f.seats {
		if o.state == alive {
			nodes = append(nodes, o.node)
		}
	}
	f.mu.Unlock()
	if len(nodes) == 0 {
		return []string{"the cluster"}
	}
	var without node.Voter
	if s != nil {
		without = node.Voter{Node: s.name, Life: s.node.Life()}
	}
	living := map[node.Voter]bool{}
	for _, n := range nodes {
		living[node.Voter{Node: n.Name(), Life: n.Life()}] = true
	}
	return losing(nodes[0].Health().Groups, living, without)
}

// losing names the groups of which too few voters are among the living. With
// without, only those are named that would feel its death.
func losing(groups []node.GroupHealth, living map[node.Voter]bool, without node.Voter) (names []string) {
	for _, g := range groups {
		left := 0
		for _, v := range g.Voters {
			if living[v] && v != without {
				left++
			}
		}
		if left < g.Quorum && (without == node.Voter{} || slices.Contains(g.Voters, without)) {
			names = append(names, g.Name)
		}
	}
	return names
}

// remedy says why the node of s must not die now, and what to do first.
func (f *fleet) remedy(s *seat) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch len(f.seats) {
	case 1:
		return "one node tolerates no loss (--nodes 3 does); --force kills it all the same"
	case 2:
		return "two nodes tolerate no loss (--nodes 3 does); --force kills it all the same"
	}
	for i, o := range f.seats {
		if o != s && (o.state == dead || o.state == dying) {
			return fmt.Sprintf("node %d is dead: restart it first, or give --force", i+1)
		}
	}
	return "another node is catching up: wait until dev list shows all alive, or give --force"
}

func whose(groups []string) string {
	if len(groups) == 1 {
		return "its"
	}
	return "their"
}

func some(groups []string) string {
	const few = 3
	if len(groups) > few {
		return fmt.Sprintf("%s and %d others", strings.Join(groups[:few], ", "), len(groups)-few)
	}
	return strings.Join(groups, ", ")
}

// restart brings a dead node back under its name and addresses, as a new life,
// and waits until the cluster is as it was before.
func (f *fleet) restart(ctx context.Context, number int, tell func(done, of int)) error {
	s, err := f.claim(number, dead, starting)
	if err != nil {
		return err
	}
	if lost := f.atRisk(nil); len(lost) > 0 {
		f.leave(s, dead)
		return fmt.Errorf("too many nodes died at once: %s lost the majority of %s replicas, which were in memory only; stop dev and start it anew", some(lost), whose(lost))
	}
	if err := f.bringUp(ctx, s, nil); err != nil {
		f.leave(s, dead)
		return err
	}
	f.leave(s, alive)
	return f.settle(ctx, tell)
}

// list tells how all nodes are.
func (f *fleet) list(urlOf func(addr string) string) []placed {
	f.mu.Lock()
	seats := make([]seat, len(f.seats))
	for i, s := range f.seats {
		seats[i] = *s
	}
	f.mu.Unlock()
	list := make([]placed, len(seats))
	for i, s := range seats {
		list[i] = placed{Node: i + 1, State: string(s.state), URL: urlOf(s.listen), Cluster: s.cluster}
		if s.state != alive {
			continue
		}
		for _, g := range s.node.Health().Groups {
			if g.Leads {
				list[i].Leads++
			}
			if g.CatchingUp {
				list[i].State = "catching up"
			}
		}
	}
	return list
}

// close ends all nodes: their front doors first, so that no request under way
// loses the shard it needs. Then nobody waits for anything, and nothing is kept:
// there is no need for them to end one by one in good order.
func (f *fleet) close() error {
	nodes := f.living()
	faults := make([]error, 2*len(nodes))
	for round, end := range []func(*node.Node) error{(*node.Node).Shut, (*node.Node).Kill} {
		var wait sync.WaitGroup
		for i, n := range nodes {
			wait.Go(func() { faults[round*len(nodes)+i] = end(n) }) // ends with the node
		}
		wait.Wait()
	}
	return errors.Join(faults...)
}
