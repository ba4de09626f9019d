package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
)

// ProposeDirectory carries out one command on the directory, wherever it is
// led, and returns once the view of this node shows it. The error is about the
// way there, as with [Cluster.Propose]; whether the directory accepted the
// command is in the result ([directory.Result.Err]).
func (c *Cluster) ProposeDirectory(ctx context.Context, cmd *directory.Command) (directory.Result, error) {
	data, err := cmd.Append(nil)
	if err != nil {
		return directory.Result{}, err
	}
	e := &changing{c: c, data: data}
	if err := c.carry(ctx, &c.desk.group, e); err != nil {
		return directory.Result{}, fmt.Errorf("change directory: %w", err)
	}
	shown := func(v *directory.View) bool { return v.Epoch >= e.result.Epoch }
	if err := c.views.await(ctx, shown); err != nil {
		return directory.Result{}, fmt.Errorf("change directory: %w: %w", cloakroom.ErrOutcomeUnknown, err)
	}
	return e.result, nil
}

// NextSealingNumber takes a sealing number that nobody had before. An unknown
// outcome may waste one; numbers need not be dense.
func (c *Cluster) NextSealingNumber(ctx context.Context) (cloakroom.SealingNumber, error) {
	result, err := c.ProposeDirectory(ctx, &directory.Command{NextSealing: &directory.NextSealing{}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("take sealing number: %w", err)
	}
	return result.SealingNumber, nil
}

// changing is the errand of ProposeDirectory.
type changing struct {
	c      *Cluster
	data   []byte
	result directory.Result
}

func (e *changing) here(ctx context.Context) (err error) {
	e.result, err = e.c.desk.propose(ctx, e.data)
	return err
}

func (e *changing) there(ctx context.Context, node string) (string, error) {
	var reply wire.ChangeReply
	req := wire.ChangeRequest{Data: e.data}
	if err := e.c.net.ask(ctx, node, wire.Change, req.Append(nil), &reply); err != nil {
		return "", elsewhere(err)
	}
	if reply.Code != wire.OK {
		return e.c.nodeOf(reply.Hint), elsewhere(reply.Code.Err())
	}
	var err error
	if e.result, err = directory.DecodeResult(reply.Result); err != nil {
		return "", fmt.Errorf("%w: bad answer: %v", cloakroom.ErrOutcomeUnknown, err)
	}
	return "", nil
}

// serveChange carries out a directory command of another node, if this one
// leads the directory.
func (c *Cluster) serveChange(ctx context.Context, body []byte) ([]byte, error) {
	var req wire.ChangeRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	reply := wire.ChangeReply{}
	ctx, cancel := early(ctx)
	defer cancel()
	// The desk keeps it, and body is only lent.
	result, err := c.desk.propose(ctx, append([]byte(nil), req.Data...))
	if err != nil {
		reply.Hint = c.desk.leaderHint()
	} else {
		reply.Result = result.Append(nil)
	}
	reply.Code = wire.CodeOf(err)
	return reply.Append(nil), nil
}
