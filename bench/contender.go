package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"time"

	"cloakroom/bench/load"
	"cloakroom/bench/server"
	"cloakroom/internal/people"
)

// protocol is how one kind of server is spoken to.
type protocol interface {
	frame(reply []byte) (int, error)
	// resolve asks for the names of people, one the plain way to ask for one.
	resolve(dst []byte, who []uint32) []byte
	// checkResolve judges a whole reply.
	checkResolve(who []uint32, reply []byte) error
	// store puts people under their own ids.
	store(dst []byte, from, n int) []byte
	// deposit puts new people; where the server draws the ids, it does.
	deposit(dst []byte, from, n int) []byte
	checkDeposit(n int, reply []byte) error
}

// contender is one server under measurement.
type contender struct {
	name string
	addr string // of one of several nodes of the server; "": the server's
	protocol
	server *server.Server
	tls    *tls.Config
	gen    *load.Generator

	awake bool // never stopped: replicas that wake from it elect new leaders
}

// options of a Cloakroom child.
type options struct {
	tls     bool
	ceiling int // answer everything with so many bytes
	nodes   int // default 1
}

func (r *run) startCloakroom(ctx context.Context, crowd *people.People, o options) (*contender, error) {
	addr, err := freeAddrs(max(1, o.nodes))
	if err != nil {
		return nil, err
	}
	c := &contender{name: "Cloakroom, HTTP", protocol: &cloakroomProtocol{crowd: crowd, addr: addr, token: r.token}}
	args := append(r.Cloakroom[:len(r.Cloakroom):len(r.Cloakroom)],
		"dev", "--listen", addr, "--token", r.token, "--people", "0", "--nodes", strconv.Itoa(max(1, o.nodes)))
	if o.tls {
		c.name = "Cloakroom, HTTPS"
		args = append(args, "--tls", "--ca-out", os.DevNull)
		// The certificate is the child's own, made a moment ago, and nothing
		// but loopback lies between.
		c.tls = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	}
	if o.ceiling > 0 {
		c.name += ", front door alone"
		args = append(args, "--bench-ceiling", strconv.Itoa(o.ceiling))
	}
	return c, r.launch(ctx, c, server.Config{Name: c.name, Command: args, Addr: addr})
}

func (r *run) startRedis(ctx context.Context, crowd *people.People) (*contender, error) {
	addr, err := server.FreeAddr()
	if err != nil {
		return nil, err
	}
	c := &contender{name: "Redis", protocol: &redisProtocol{crowd: crowd}}
	return c, r.launch(ctx, c, server.Config{Name: c.name, Addr: addr, Command: []string{
		r.Redis, "--bind", "127.0.0.1", "--port", port(addr), "--save", "", "--appendonly", "no", "--daemonize", "no"}})
}

func (r *run) launch(ctx context.Context, c *contender, cfg server.Config) (err error) {
	if c.server, err = server.Start(ctx, cfg); err != nil {
		return err
	}
	r.logf("%s: ready after %v", c.name, c.server.ReadyAfter().Round(time.Millisecond))
	if err := c.dial(ctx, r.Connections); err != nil {
		c.stop()
		return err
	}
	return nil
}

// startAll starts the servers that are compared, with one crowd.
func (r *run) startAll(ctx context.Context, crowd *people.People, o options) (all []*contender, err error) {
	ours, err := r.startCloakroom(ctx, crowd, o)
	if err != nil {
		return nil, err
	}
	if all = append(all, ours); r.Redis == "" {
		return all, nil
	}
	redis, err := r.startRedis(ctx, crowd)
	if err != nil {
		stopAll(all)
		return nil, err
	}
	return append(all, redis), nil
}

func stopAll(all []*contender) {
	for _, c := range all {
		c.stop()
	}
}

func (c *contender) dial(ctx context.Context, connections int) (err error) {
	if c.gen != nil {
		c.gen.Close()
	}
	c.gen, err = load.Dial(ctx, load.Config{Addr: c.address(), Connections: connections, TLS: c.tls})
	return err
}

// address returns where c is called.
func (c *contender) address() string {
	if c.addr != "" {
		return c.addr
	}
	return c.server.Addr()
}

func (c *contender) stop() {
	if c.gen != nil {
		c.gen.Close()
	}
	c.server.Stop()
}

// pauseOthers lets one contender run and stops all others.
func pauseOthers(all []*contender, one *contender) error {
	for _, c := range all {
		if c.server != one.server && !c.awake {
			if err := c.server.Pause(); err != nil {
				return fmt.Errorf("pause %s: %w", c.name, err)
			}
		}
	}
	if err := one.server.Resume(); err != nil {
		return fmt.Errorf("resume %s: %w", one.name, err)
	}
	return nil
}

func resumeAll(all []*contender) {
	for _, c := range all {
		c.server.Resume()
	}
}

// storeBatch is how many people one storing request carries.
const storeBatch = 1000

// storeChunk bounds how many requests are built at a time.
const storeChunk = 100

// store loads people from to to-1 under their own ids.
func (c *contender) store(ctx context.Context, from, to int) (load.Result, error) {
	total := load.Result{Items: int64(to - from)}
	for from < to {
		plan := &load.Plan{Items: storeBatch, Frame: c.frame}
		plan.Check = func(i int, reply []byte) error { return c.checkDeposit(0, reply) }
		for len(plan.Requests) < storeChunk && from < to {
			n := min(storeBatch, to-from)
			plan.Requests = append(plan.Requests, c.protocol.store(nil, from, n))
			from += n
		}
		res, err := c.gen.Once(ctx, plan)
		if err != nil {
			return total, fmt.Errorf("store people in %s: %w", c.name, err)
		}
		total.Elapsed += res.Elapsed
	}
	return total, nil
}

func newToken() string {
	var b [16]byte
	rand.Read(b[:])
	return "bench-" + hex.EncodeToString(b[:])
}
