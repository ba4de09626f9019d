package peer

import (
	"crypto/tls"

	"cloakroom/cluster/cert"
)

// tls returns the two ends' settings. Both verify the other's chain up to the
// cluster's CA at the time Now says; who it is that the certificate names is
// looked at next ([link.identify]).
//
// No session tickets: a connection lives for long, and a ticket would keep its
// key material alive beyond it.
func (c *Config) tls() (server, client *tls.Config) {
	common := tls.Config{
		Certificates:                []tls.Certificate{c.Certificate},
		MinVersion:                  tls.VersionTLS13,
		Time:                        c.Now,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // for web pages; here it costs throughput
	}
	server, client = common.Clone(), common.Clone()
	server.NextProtos = []string{calls.protocol(), raft.protocol()}
	if c.Gossip != nil {
		server.NextProtos = append(server.NextProtos, gossip.protocol())
	}
	server.ClientAuth = tls.RequireAndVerifyClientCert
	server.ClientCAs = c.Roots
	client.ServerName = cert.ServerName
	client.RootCAs = c.Roots
	return server, client
}
