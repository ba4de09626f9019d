package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestTheTreeKeepsTheRules(t *testing.T) {
	tree, err := Load(os.DirFS(root(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range tree.Check(All()) {
		t.Error(finding)
	}
}

// root returns the folder with the go.mod.
func root(t *testing.T) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			t.Fatal("no go.mod above")
		}
		folder = filepath.Dir(folder)
	}
}

// TestEveryRuleFires checks the bad trees under testdata. The comment of each
// archive lists what must be found in it, and nothing else may be.
func TestEveryRuleFires(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no archives", err)
	}
	fired := map[string]bool{}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := fstest.MapFS{}
			for _, f := range archive.Files {
				files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			check(t, files, strings.TrimSpace(string(archive.Comment)), fired)
		})
	}
	t.Run("made here", func(t *testing.T) { checkMade(t, fired) })
	for _, rule := range All() {
		if !fired[rule.Name] {
			t.Errorf("no sample makes the rule %s fire", rule.Name)
		}
	}
}

// checkMade checks what would break a rule if it stood in a file of this tree.
func checkMade(t *testing.T, fired map[string]bool) {
	long := "package client\n\nfunc long() {\n" + strings.Repeat("\t_ = 0\n", maxFunctionLines-2) + "}\n"
	files := fstest.MapFS{
		"client/doc.go":    {Data: []byte("// Package client is short.\npackage client\n")},
		"client/fits.go":   {Data: []byte(long)},
		"client/long.go":   {Data: []byte(strings.Replace(long, "}", "\t_ = 1\n}", 1))},
		"client/open.go":   {Data: []byte("package client\n\n// to" + "do: all\n")},
		"client/paths.md":  {Data: []byte("see\n/wo" + "rk/main and https://proxy.gol" + "ang.org\n")},
		"client/volume.go": {Data: []byte("package client\n" + strings.Repeat("\n// line\n", maxFileLines/2))},
		"client/image.png": {Data: []byte("\x89PNG\x00 /wo" + "rk/ is in no text")},
		"bin/client.go":    {Data: []byte("not Go, not ours")},
	}
	want := "client/long.go:3: long-function: long has 91 lines, at most 90\n" +
		"client/open.go:3: left-open: left open: to" + "do\n" +
		"client/paths.md:2: machine: belongs to one machine: /wo" + "rk/\n" +
		"client/paths.md:2: machine: belongs to one machine: proxy.gol" + "ang.org\n" +
		"client/volume.go:0: long-file: 701 lines: is it one room?"
	check(t, files, want, fired)
}

func check(t *testing.T, files fstest.MapFS, want string, fired map[string]bool) {
	t.Helper()
	tree, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, finding := range tree.Check(All()) {
		lines = append(lines, finding.String())
		fired[finding.Rule] = true
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\n\nwant\n%s", got, want)
	}
}
