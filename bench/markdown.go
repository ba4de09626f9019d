package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Markdown returns the report as tables.
func (r *Report) Markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s; %d cores; Linux %s; %s; Redis %s; %s.\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Machine.Redis, r.Started.Format("2006-01-02"))
	fmt.Fprintf(&b, "%s people, %d connections, %d rounds of %g s in turns; medians, with the lowest and the highest round.\n", thousands(float64(r.People)), r.Connections, r.Rounds, r.RoundSeconds)
	r.rowTables(&b)
	r.latencyTable(&b)
	r.memoryTable(&b)
	if r.Import != nil {
		fmt.Fprintf(&b, "\n`cloakroom import` of %s rows (%s): %.1f s, %s rows/s.\n", thousands(float64(r.Import.Rows)), strings.Join(r.Import.Columns, ", "), r.Import.Seconds, thousands(r.Import.RowsPerSecond))
	}
	if r.Start != nil {
		fmt.Fprintf(&b, "\n`cloakroom dev --people 0` is ready after %.0f ms (%.0f–%.0f).\n", r.Start.Median*1e3, r.Start.Min*1e3, r.Start.Max*1e3)
	}
	r.nodesText(&b)
	r.replicasTable(&b)
	r.erasuresText(&b)
	return b.Bytes()
}

func (r *Report) nodesText(b *bytes.Buffer) {
	if n := r.Nodes; n != nil {
		fmt.Fprintf(b, "\nThree nodes in one process, left alone for %.0f s: %.3f of a core, %.1f MiB resident.\n", n.IdleSeconds, n.IdleCores, mib(n.IdleRSS))
		if n.Import != nil {
			fmt.Fprintf(b, "`cloakroom import` of %s rows (%s) into them: %.1f s, %s rows/s.\n", thousands(float64(n.Import.Rows)), strings.Join(n.Import.Columns, ", "), n.Import.Seconds, thousands(n.Import.RowsPerSecond))
		}
	}
}

func (r *Report) replicasTable(b *bytes.Buffer) {
	p := r.Replicas
	if p == nil {
		return
	}
	fmt.Fprintf(b, "\n**Three nodes without their front doors: %d groups, %d clients, entries of %d bytes**\n\n| single writes | a second | lowest–highest | of bare raft |\n|---|--:|--:|--:|\n", p.Groups, p.Clients, p.EntryBytes)
	for _, row := range []struct {
		name string
		Spread
	}{{"deposits at the leader", p.AtLeader}, {"deposits at every node", p.AtEveryNode}, {"hashicorp/raft by itself, TCP without TLS", p.BareRaft}} {
		fmt.Fprintf(b, "| %s | %s | %s–%s | %.2f |\n", row.name, thousands(row.Median), thousands(row.Min), thousands(row.Max), row.Median/p.BareRaft.Median)
	}
	fmt.Fprintf(b, "\nAfter the death of a node, over %d deaths and %d shards they led: writes back after %.2f s (median), %.2f s at worst; all replicas back %.1f s after the death.\n",
		p.Deaths, p.ShardsLed, p.BackAfter.Median, p.BackAfter.Max, p.RejoinedWithin.Median)
}

func (r *Report) erasuresText(b *bytes.Buffer) {
	if e := r.Erasures; e != nil {
		fmt.Fprintf(b, "\nAn erasure at a node that leads nothing: %.2f ms (median), %.1f ms at worst; with one replica that stands still %.2f s, %.2f s at worst.\n",
			e.AllWell.Median*1e3, e.AllWell.Max*1e3, e.OneStandsStill.Median, e.OneStandsStill.Max)
		fmt.Fprintf(b, "%s reads at survivors while the leader of their shards died: the slowest of a death %.0f ms (median), %.0f ms at worst.\n",
			thousands(float64(e.ReadsThroughDeaths)), e.SlowestRead.Median*1e3, e.SlowestRead.Max*1e3)
	}
}

func (r *Report) rowTables(b *bytes.Buffer) {
	last := ""
	for _, row := range r.Rows {
		if row.Scenario != last {
			fmt.Fprintf(b, "\n**%s**\n\n| server | batch | a second | lowest–highest | per CPU-second of the server | server, generator cores |\n|---|--:|--:|--:|--:|--:|\n", row.Scenario)
			last = row.Scenario
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s–%s | %s | %.2f, %.2f |\n", row.Server, row.Batch, thousands(row.PerSecond.Median),
			thousands(row.PerSecond.Min), thousands(row.PerSecond.Max), thousands(row.PerCPUSecond.Median), row.ServerCores, row.GeneratorCores)
	}
}

func (r *Report) latencyTable(b *bytes.Buffer) {
	latencyRows(b, "Latency from the intended start, µs", r.Latencies)
	latencyRows(b, "Single writes, one after the other, µs", r.Writes)
}

func latencyRows(b *bytes.Buffer, title string, rows []Latency) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n**%s**\n\n| server | batch | requests/s | p50 | p90 | p99 | p99.9 | max | p99 in the server |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", title)
	for _, l := range rows {
		inside := "–"
		if l.ServerP99 > 0 {
			inside = thousands(l.ServerP99)
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", l.Server, l.Batch, thousands(l.RequestsPerSecond),
			thousands(l.P50), thousands(l.P90), thousands(l.P99), thousands(l.P999), thousands(l.Max), inside)
	}
}

func (r *Report) memoryTable(b *bytes.Buffer) {
	if len(r.Memory) == 0 {
		return
	}
	b.WriteString("\n**Resident memory**\n\n| server | name | subjects | bytes a subject | empty | at the lower end | at the upper end |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, m := range r.Memory {
		fmt.Fprintf(b, "| %s | %d bytes | %s → %s | %.1f | %.1f MiB | %.1f MiB | %.1f MiB |\n", m.Server, m.NameBytes,
			thousands(float64(m.From)), thousands(float64(m.To)), m.BytesPerSubject, mib(m.Empty), mib(m.RSSFrom), mib(m.RSSTo))
	}
}

// thousands writes a figure without decimals, in groups of three.
func thousands(f float64) string {
	text := strconv.FormatFloat(f, 'f', 0, 64)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
