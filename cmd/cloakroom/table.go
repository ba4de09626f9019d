package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table prints rows of cells in columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(printable(row[i]), "\n", " ")
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// printJSON prints v, indented.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// flatten turns a JSON document into rows of path and value, in its order.
func flatten(document []byte) ([][]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var rows [][]string
	err := flattenValue(decoder, "", &rows)
	return rows, err
}

func flattenValue(decoder *json.Decoder, path string, rows *[][]string) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	delim, ok := token.(json.Delim)
	if token == nil {
		token = "null"
	}
	if !ok {
		*rows = append(*rows, []string{path, fmt.Sprint(token)})
		return nil
	}
	for i := 0; decoder.More(); i++ {
		name := fmt.Sprint(i)
		if delim == '{' {
			token, err := decoder.Token()
			if err != nil {
				return err
			}
			name = fmt.Sprint(token)
		}
		if path != "" {
			name = path + "." + name
		}
		if err := flattenValue(decoder, name, rows); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}
