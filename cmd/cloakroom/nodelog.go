package main

import (
	"io"
	"log/slog"
	"net"
	"os"

	"cloakroom/cmd/cloakroom/nodefile"
)

// newLog makes the log of a node. Under systemd the journal keeps the time.
func newLog(w io.Writer, f *nodefile.File, level *slog.LevelVar) *slog.Logger {
	setLevel(level, f)
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		options.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
	}
	if f.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func setLevel(level *slog.LevelVar, f *nodefile.File) {
	if level.UnmarshalText([]byte(f.Log.Level)) != nil {
		panic("main: a log level that slog does not know") // nodefile takes none
	}
}

// tellSupervisor tells systemd how the service is (sd_notify), where it asked.
func tellSupervisor(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all was said
	_, err = c.Write([]byte(state))
	return err
}
