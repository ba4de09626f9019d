package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"cloakroom/bench/load"
	"cloakroom/bench/server"
)

// replyBytesHeader asks the fixed server for a body of that many bytes.
const replyBytesHeader = "X-Reply-Bytes"

// ceiling measures what is left when nothing is looked up and nothing opened:
// a bare net/http server that answers fixed bytes of the same size to the same
// requests.
func (r *run) ceiling(ctx context.Context, batch int, all []*contender) error {
	defer resumeAll(all)
	ours := all[0]
	draws := r.draws(batch, false)
	if err := pauseOthers(all, ours); err != nil {
		return err
	}
	size, err := replySize(ctx, ours, draws)
	if err != nil {
		return err
	}
	addr, err := server.FreeAddr()
	if err != nil {
		return err
	}
	fixed := &cloakroomProtocol{crowd: r.crowd, addr: addr, token: r.token, extra: fmt.Sprintf("%s: %d\r\n", replyBytesHeader, size)}
	bare := &contender{name: "bare net/http", protocol: fixed}
	command := append(r.Ceiling[:len(r.Ceiling):len(r.Ceiling)], addr)
	if err := r.launch(ctx, bare, server.Config{Name: bare.name, Command: command, Addr: addr}); err != nil {
		return err
	}
	defer bare.stop()
	plan := resolvePlan(bare, draws)
	plan.Check = nil
	_, err = r.compare(ctx, "ceiling, fixed bytes", batch, append(all[:len(all):len(all)], bare), []entry{{bare, plan}})
	return err
}

// replySize returns the mean size of the bodies that answer the first draws.
func replySize(ctx context.Context, c *contender, draws [][]uint32) (int, error) {
	sum, n := 0, 0
	plan := resolvePlan(c, draws[:min(len(draws), 1000)])
	plan.Frame = func(b []byte) (int, error) {
		size, err := c.frame(b)
		if size > 0 {
			sum += len(load.Body(b[:size]))
			n++
		}
		return size, err
	}
	if _, err := c.gen.Once(ctx, plan); err != nil {
		return 0, err
	}
	return sum / max(n, 1), nil
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
