package node_test

import (
	"context"
	"fmt"
	"testing"

	"cloakroom"
	"cloakroom/node"
	"cloakroom/node/api"
)

// bench is a node, called without its front door.
type bench struct {
	*node.Node
	caller api.Caller
}

func openBench(b *testing.B) *bench {
	b.Helper()
	cfg := node.DevConfig([]byte(allToken))
	cfg.KeepDumpable, cfg.Domains = true, []string{"shop"}
	n, err := node.New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	caller, err := n.Authenticate([]byte(allToken))
	if err != nil {
		b.Fatal(err)
	}
	return &bench{n, caller}
}

// deposit is the deposit of one name in a domain.
func depositOf(domain string) *api.Deposit {
	name := []byte("Ada Augusta King-Lovelace")
	return &api.Deposit{Domain: []byte(domain), Fields: []api.FieldValue{{Name: []byte("display_name"), Kind: api.String, Value: name}}}
}

func (n *bench) upsert(b *testing.B, person int, domain string) cloakroom.Pseudonym {
	source := &api.Source{Issuer: []byte("https://login.example.org"), Subject: fmt.Appendf(nil, "subject-%d", person)}
	done, err := n.Upsert(context.Background(), &api.Request{Caller: n.caller}, source, depositOf(domain))
	if err != nil {
		b.Fatal(err)
	}
	return done.ID
}

// BenchmarkResolve100 resolves a page without the front door: of pseudonyms
// that people were made with, and of aliases.
func BenchmarkResolve100(b *testing.B) {
	for _, domain := range []string{"default", "shop"} {
		b.Run(map[string]string{"default": "own", "shop": "aliases"}[domain], func(b *testing.B) {
			n := openBench(b)
			q := &api.Query{Asked: 100, Fields: [][]byte{[]byte("display_name")}}
			for person := range 100 {
				n.upsert(b, person, "default")
				q.IDs = append(q.IDs, n.upsert(b, person, domain))
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				reply, err := api.NewResolveReply(ctx, n.Pool(), q)
				if err != nil {
					b.Fatal(err)
				}
				if err := n.Resolve(ctx, &api.Request{Caller: n.caller}, q, reply); err != nil {
					b.Fatal(err)
				}
				reply.Release()
			}
		})
	}
}

// BenchmarkWrite compares what it takes to write one subject: an upsert of a
// known person is to stay within a tenth of a deposit.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name  string
		write func(b *testing.B, n *bench, i int)
	}{
		{"deposit", func(b *testing.B, n *bench, _ int) {
			if _, err := n.Deposit(context.Background(), &api.Request{Caller: n.caller}, depositOf("")); err != nil {
				b.Fatal(err)
			}
		}},
		{"put of one", func(b *testing.B, n *bench, i int) {
			id := cloakroom.Pseudonym{byte(i), byte(i>>8) & 3}
			id.SetRandomForm()
			if _, err := n.Put(context.Background(), &api.Request{Caller: n.caller}, id, depositOf("")); err != nil {
				b.Fatal(err)
			}
		}},
		{"upsert of a known person", func(b *testing.B, n *bench, i int) { n.upsert(b, i%1024, "") }},
		{"upsert of a new person", func(b *testing.B, n *bench, i int) { n.upsert(b, i, "") }},
		{"upsert in a further domain", func(b *testing.B, n *bench, i int) { n.upsert(b, i, "shop") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := openBench(b)
			for person := range 1024 {
				if c.name != "upsert of a new person" {
					n.upsert(b, person, "")
				}
			}
			i := 0
			for b.Loop() {
				c.write(b, n, i)
				i++
			}
		})
	}
}
