//go:build dumptest

package node

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"sync"

	"cloakroom"
	"cloakroom/node/api"
)

// hooks is what the dump test adds to a node: a way to learn its keys, and
// ways to break the promise, so that the test can be seen to fail.
type hooks struct {
	careless bool
	keys     [][]byte
	blocks   []cipher.Block
}

// TellKeys writes the node's raw keys of this moment, a line each, `<hex, every
// bit inverted> <node>: <name>`. It exists in builds with the tag dumptest
// only.
func (n *Node) TellKeys(out io.Writer) error {
	for _, key := range n.keys.RawKeysForTest() {
		if _, err := fmt.Fprintf(out, "%x %s: %s\n", key.Inverted, n.cfg.Name, key.Name); err != nil {
			return err
		}
	}
	return nil
}

// LeakForTest breaks the promise on purpose: "names" lets values pass through
// the Go heap, "keys" leaves copies of keys there. Call it before Serve.
func (n *Node) LeakForTest(what string) error {
	switch what {
	case "":
	case "names":
		n.careless = true
	case "keys":
		return n.leakKeys()
	default:
		return fmt.Errorf("leak %q: want names or keys", what)
	}
	return nil
}

func (n *Node) leakKeys() error {
	for _, key := range n.keys.RawKeysForTest() {
		raw := make([]byte, len(key.Inverted))
		for i, b := range key.Inverted {
			raw[i] = ^b
		}
		n.hooks.keys = append(n.hooks.keys, raw)
		if len(raw) == 32 {
			block, err := aes.NewCipher(raw)
			if err != nil {
				return err
			}
			n.blocks = append(n.blocks, block)
		}
	}
	return nil
}

// service is what the front door asks.
func (n *Node) service() api.Service {
	if n.careless {
		return &careless{Node: n}
	}
	return n
}

// careless does what a program does that takes no care: it makes a string of
// a value. The strings live as long as the node.
type careless struct {
	*Node
	mu      sync.Mutex
	strings []string
}

func (c *careless) keep(value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strings = append(c.strings, string(value))
}

// Deposit implements api.Service.
func (c *careless) Deposit(ctx context.Context, req *api.Request, d *api.Deposit) (api.Deposited, error) {
	for _, f := range d.Fields {
		c.keep(f.Value)
	}
	return c.Node.Deposit(ctx, req, d)
}

// Get implements api.Service.
func (c *careless) Get(ctx context.Context, req *api.Request, id cloakroom.Pseudonym, q *api.Query, reply *api.SubjectReply) error {
	err := c.Node.Get(ctx, req, id, q, reply)
	if content, fault := reply.Content(); fault == nil {
		c.keep(content)
	}
	return err
}
