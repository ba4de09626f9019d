package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

// sourceFlags name a subject by what an issuer calls it.
type sourceFlags struct{ issuer, subject, file string }

func (f *sourceFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.issuer, "issuer", "", "identity provider that has a name for the subject")
	c.Flags().StringVar(&f.file, "subject-file", "", "file with that name")
	c.Flags().StringVar(&f.subject, "subject", "", "that name, where nobody else can see the command line")
}

// source returns what the flags name, nil if they name nothing. A line end
// behind the name in a file is no part of it.
func (f *sourceFlags) source(hasID bool) (*client.Source, error) {
	switch {
	case *f == sourceFlags{}:
		return nil, nil
	case hasID:
		return nil, usagef("give --id or --issuer, not both")
	case f.issuer == "" || (f.subject == "") == (f.file == ""):
		return nil, usagef("give --issuer and, of --subject-file and --subject, one")
	}
	name := f.subject
	if f.file != "" {
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, fmt.Errorf("read --subject-file: %w", err)
		}
		name = strings.TrimRight(string(text), "\r\n")
	}
	if name == "" {
		return nil, usagef("--subject-file: the file is empty")
	}
	return &client.Source{Issuer: f.issuer, Subject: name}, nil
}
