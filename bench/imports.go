package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"cloakroom/internal/people"
)

// imports measures the command line reading a file of people into one node.
func (r *run) imports(ctx context.Context) (err error) {
	r.report.Import, err = r.importInto(ctx, 1)
	return err
}

// importInto measures an import into a cluster of that many nodes.
func (r *run) importInto(ctx context.Context, nodes int) (*Import, error) {
	dir, err := os.MkdirTemp("", "cloakroom-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	columns := []string{"display_name", "email", "birth_date"}
	file := filepath.Join(dir, "people.csv")
	if err := writeCSV(file, r.crowd, r.ImportRows, columns); err != nil {
		return nil, fmt.Errorf("write people: %w", err)
	}
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(r.token), 0o600); err != nil {
		return nil, err
	}
	c, err := r.startCloakroom(ctx, r.crowd, options{nodes: nodes})
	if err != nil {
		return nil, err
	}
	defer c.stop()
	args := append(r.Cloakroom[1:len(r.Cloakroom):len(r.Cloakroom)],
		"import", file, "--key", "key", "--out", filepath.Join(dir, "map.csv"))
	cmd := exec.CommandContext(ctx, r.Cloakroom[0], args...)
	cmd.Env = append(os.Environ(), "CLOAKROOM_ADDR=http://"+c.server.Addr(), "CLOAKROOM_TOKEN_FILE="+tokenFile)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("import: %w: %s", err, bytes.TrimSpace(out))
	}
	took := time.Since(start)
	rows, err := countLines(filepath.Join(dir, "map.csv"))
	if err != nil {
		return nil, err
	}
	if rows < r.ImportRows {
		return nil, fmt.Errorf("import: %d rows came back of %d", rows, r.ImportRows)
	}
	result := &Import{Nodes: nodes, Rows: r.ImportRows, Columns: columns, Seconds: took.Seconds(), RowsPerSecond: float64(r.ImportRows) / took.Seconds()}
	r.logf("%-28s %d rows into %d nodes in %v, %.0f rows/s", "import", r.ImportRows, nodes, took.Round(time.Millisecond), result.RowsPerSecond)
	return result, nil
}

func writeCSV(path string, crowd *people.People, rows int, columns []string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	out := csv.NewWriter(file)
	out.Write(append([]string{"key"}, columns...))
	for i := range uint64(rows) {
		out.Write([]string{"employee-" + strconv.FormatUint(i, 10), string(crowd.AppendName(nil, i)),
			string(crowd.AppendEmail(nil, i)), string(crowd.AppendBirthDate(nil, i))})
	}
	out.Flush()
	return out.Error()
}

func countLines(path string) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	n := 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		n++
	}
	return n, lines.Err()
}
