package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

// serveThenSay says "ready" once connections are taken.
func serveThenSay(s *http.Server, addr string, stdout io.Writer) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(stdout, "ready")
	return s.Serve(listener)
}
