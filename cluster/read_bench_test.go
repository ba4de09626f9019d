package cluster

import (
	"context"
	"crypto/rand"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// BenchmarkRead is a page of 96 records out of 16 shards with real state, as
// one node alone reads it.
func BenchmarkRead(b *testing.B) {
	r, _ := openReal(b, 256<<20, func(c *Config) { c.Shards = 16 })
	pages, scratch, dst := fillPages(b, r.Propose), make([]Part, cloakroom.MaxShards), &command.Records{}
	b.ReportAllocs()
	defer onOneThread(b)()
	for i := 0; b.Loop(); i++ {
		readPage(b, r.Cluster, pages[i%len(pages)], scratch, dst)
	}
}

// fillPages deposits 19,200 subjects and lays their tokens out in pages of 96.
func fillPages(b *testing.B, propose func(context.Context, cloakroom.ShardID, []command.Command) ([]command.Result, cloakroom.Index, error)) [][]Part {
	const pages = 200
	out := make([][]Part, pages)
	var page [pages][16][]cloakroom.Token
	for shard := range 16 {
		var cmds []command.Command
		for i := range 6 * pages {
			var token cloakroom.Token
			rand.Read(token[:])
			c := command.Command{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Token: token, Record: make([]byte, 60)}}}
			rand.Read(c.Subject[:])
			rand.Read(c.Version[:])
			cmds = append(cmds, c)
			page[i%pages][shard] = append(page[i%pages][shard], token)
		}
		if _, _, err := propose(b.Context(), cloakroom.ShardID(shard), cmds); err != nil {
			b.Fatal(err)
		}
	}
	for p := range out {
		for shard, tokens := range page[p] {
			out[p] = append(out[p], Part{Shard: cloakroom.ShardID(shard), Tokens: tokens})
		}
	}
	return out
}
