package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

func (a *app) events() *cobra.Command {
	var w client.Watch
	var once bool
	c := &cobra.Command{
		Use:   "events",
		Short: "Watch which subjects change or are erased",
		Long: `Events prints a line for each subject whose values are gone or are others now,
within a second, until Ctrl-C. It never prints a value, and nothing about
subjects that are new. A line "reset" says that changes may have been missed:
whoever keeps values drops all of them.

The token's grant needs the action "events"; other domains than the grant's
stay unseen. A connection that breaks is made again and goes on where it was.

With --once it prints what changed since --cursor, and the cursor for next
time, and ends. On any node the next call goes on behind it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runEvents(c, w, once) },
	}
	c.Flags().StringVar(&w.Cursor, "cursor", "", "go on behind this cursor; without it, begin with the present")
	c.Flags().BoolVar(&once, "once", false, "end when all that was acknowledged by now is printed")
	return a.jsonFlag(c)
}

// errEnough ends a stream of which everything was seen that was wanted.
var errEnough = errors.New("enough")

func (a *app) runEvents(c *cobra.Command, w client.Watch, once bool) error {
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	print := a.printEvent
	if a.json {
		print = a.printEventJSON
	}
	cursor := w.Cursor
	err = server.Events(c.Context(), w, func(e client.Event) error {
		cursor = e.Cursor
		if err := print(&e); err != nil {
			return err
		}
		if once && !e.Known.IsZero() {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return a.printCursor(cursor)
	}
	if c.Context().Err() != nil { // Ctrl-C is how it is ended
		return nil
	}
	return err
}

func (a *app) printEvent(e *client.Event) error {
	var text []byte
	if e.Reset {
		text = append(text, "reset\n"...)
	}
	for _, id := range e.Erased {
		text = fmt.Appendln(text, "erased ", id)
	}
	for _, id := range e.Changed {
		text = fmt.Appendln(text, "changed", id)
	}
	_, err := a.out.Write(text)
	return err
}

// printEventJSON prints an event in one line, unless it only says that nothing
// happened.
func (a *app) printEventJSON(e *client.Event) error {
	if !e.Reset && len(e.Erased)+len(e.Changed) == 0 {
		return nil
	}
	line := struct {
		Reset   bool     `json:"reset"`
		Erased  []string `json:"erased"`
		Changed []string `json:"changed"`
		Known   string   `json:"known,omitempty"` // everything acknowledged before has been told
		Cursor  string   `json:"cursor"`
	}{e.Reset, texts(e.Erased), texts(e.Changed), "", e.Cursor}
	if !e.Known.IsZero() {
		line.Known = e.Known.UTC().Format(time.RFC3339Nano)
	}
	return json.NewEncoder(a.out).Encode(line)
}

func (a *app) printCursor(cursor string) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(map[string]string{"cursor": cursor})
	}
	_, err := fmt.Fprintln(a.out, "cursor ", cursor)
	return err
}
