package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"

	"cloakroom/bench/load"
	"cloakroom/bench/server"
)

// replyBytesHeader asks the fixed server for a body of that many bytes.
const replyBytesHeader = "X-Reply-Bytes"

// ceilings measures what is left when nothing is looked up and nothing opened:
// our own front door answering fixed bytes of the same size to the same
// requests, and a bare net/http server doing that.
func (r *run) ceilings(ctx context.Context, scenario string, batch int, all []*contender) error {
	draws := r.draws(batch, false)
	if err := pauseOthers(all, all[0]); err != nil {
		return err
	}
	defer resumeAll(all)
	size, err := replySize(ctx, all[0], draws)
	if err != nil {
		return err
	}
	door, err := r.startCloakroom(ctx, r.crowd, options{tls: all[0].tls != nil, ceiling: size})
	if err != nil {
		return err
	}
	defer door.stop()
	fixed := []*contender{door}
	if r.Ceiling != nil && all[0].tls == nil {
		bare, err := r.startBare(ctx, size)
		if err != nil {
			return err
		}
		defer bare.stop()
		fixed = append(fixed, bare)
	}
	var entries []entry
	for _, c := range fixed {
		plan := resolvePlan(c, draws)
		plan.Check = nil
		entries = append(entries, entry{c, plan})
	}
	_, err = r.compare(ctx, scenario, batch, slices.Concat(all, fixed), entries)
	return err
}

// startBare starts the bare net/http server.
func (r *run) startBare(ctx context.Context, size int) (*contender, error) {
	addr, err := server.FreeAddr()
	if err != nil {
		return nil, err
	}
	bare := &contender{name: "bare net/http", protocol: &cloakroomProtocol{
		crowd: r.crowd, addr: addr, token: r.token, extra: fmt.Sprintf("%s: %d\r\n", replyBytesHeader, size)}}
	command := append(r.Ceiling[:len(r.Ceiling):len(r.Ceiling)], addr)
	return bare, r.launch(ctx, bare, server.Config{Name: bare.name, Command: command, Addr: addr})
}

// replySize returns the mean size of the bodies that answer the first draws.
func replySize(ctx context.Context, c *contender, draws [][]uint32) (int, error) {
	var sum, n atomic.Int64 // connections over TLS have a goroutine each
	plan := resolvePlan(c, draws[:min(len(draws), 1000)])
	plan.Frame = func(b []byte) (int, error) {
		size, err := c.frame(b)
		if size > 0 {
			sum.Add(int64(len(load.Body(b[:size]))))
			n.Add(1)
		}
		return size, err
	}
	if _, err := c.gen.Once(ctx, plan); err != nil {
		return 0, err
	}
	return int(sum.Load() / max(n.Load(), 1)), nil
}

// ServeFixed is the fixed server; it runs in a process of its own until that
// is ended.
func ServeFixed(addr string, stdout io.Writer) error {
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = 'x'
	}
	server := &http.Server{Addr: addr, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		n, err := strconv.Atoi(req.Header.Get(replyBytesHeader))
		if err != nil || n < 0 || n > len(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.Write(body[:n])
	})}
	return serveThenSay(server, addr, stdout)
}
