package cluster

import (
	"crypto/rand"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// BenchmarkRead is a page of 100 records out of 16 shards with real state, as
// one node alone reads it.
func BenchmarkRead(b *testing.B) {
	r, _ := openReal(b, 256<<20, func(c *Config) { c.Shards = 16 })
	parts, dst := fillPages(b, r)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		dst.Reset()
		spans := dst.Extend(100)
		page := parts[i%len(parts)]
		at := 0
		for j := range page {
			page[j].Spans = spans[at : at+len(page[j].Tokens)]
			at += len(page[j].Tokens)
		}
		r.ReadParts(b.Context(), cloakroom.Lease, cloakroom.Index{}, page, dst)
		for j := range page {
			if page[j].Err != nil {
				b.Fatal(page[j].Err)
			}
		}
	}
}

// fillPages deposits 20,000 subjects and lays their tokens out in pages of 100.
func fillPages(b *testing.B, r *rig) ([][]Part, *command.Records) {
	const pages = 200
	out := make([][]Part, pages)
	var page [pages][16][]cloakroom.Token
	for shard := range 16 {
		var cmds []command.Command
		for i := range 100 * pages / 16 {
			var token cloakroom.Token
			rand.Read(token[:])
			c := command.Command{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Token: token, Record: make([]byte, 60)}}}
			rand.Read(c.Subject[:])
			rand.Read(c.Version[:])
			cmds = append(cmds, c)
			page[i%pages][shard] = append(page[i%pages][shard], token)
		}
		if _, _, err := r.Propose(b.Context(), cloakroom.ShardID(shard), cmds); err != nil {
			b.Fatal(err)
		}
	}
	for p := range out {
		for shard, tokens := range page[p] {
			out[p] = append(out[p], Part{Shard: cloakroom.ShardID(shard), Tokens: tokens})
		}
	}
	return out, &command.Records{}
}
