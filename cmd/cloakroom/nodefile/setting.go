package nodefile

import "time"

// setting is one key of the file.
type setting struct {
	key    string // "cluster.shards"
	value  value
	preset string // the default, as it would be written; "" is none
	needed bool   // must stand in the file
	shared bool   // the same on all nodes, chosen by `node init`
	reload bool   // SIGHUP takes it over
	doc    string // one or two sentences
}

// settings binds every key to its place in f. The order is that of the
// reference.
func settings(f *File) []setting {
	return []setting{
		{key: "node.name", value: name(&f.Node.Name), needed: true,
			doc: "The name of this node, unlike any other's in the cluster. It stands in its certificate and can't be changed."},
		{key: "node.zone", value: optional(name(&f.Node.Zone)),
			doc: "What fails together with this node: a rack, a room, an availability zone. Replicas are spread over zones where there are three."},
		{key: "node.data", value: path(&f.Node.Data), needed: true,
			doc: "The folder of this node: its identity, its TLS key, the encrypted keyring and the log of the directory. Made by `node init`, or by the first `node run --join-token-file`. Never copy it to a second machine."},

		{key: "api.listen", value: hostPort(&f.API.Listen), preset: "127.0.0.1:8200",
			doc: "Where the HTTP API for services listens. Beyond the loopback interface it wants `api.tls`."},
		{key: "api.advertise", value: optional(hostPort(&f.API.Advertise)),
			doc: "The address under which services reach it, as `nodes list` shows it. Default: `api.listen`."},
		{key: "api.tls", value: choice(&f.API.TLS, "internal"),
			doc: "`internal`: a certificate of the cluster's own authority. Or a section with `cert` and `key`. Without it there is no TLS, on the loopback interface only."},
		{key: "api.tls.cert", value: path(&f.API.Cert), reload: true,
			doc: "File with the certificate, and those between it and its authority, PEM."},
		{key: "api.tls.key", value: path(&f.API.Key), reload: true,
			doc: "File with its private key, PEM."},

		{key: "api.linger", value: duration(&f.API.Linger, 0, time.Minute), preset: "2s",
			doc: "How long at its end a node goes on answering, after `/readyz` has said no, so that callers and load balancers go elsewhere first. It ends sooner when nobody is connected."},

		{key: "operator.listen", value: hostPortOrSocket(&f.Operator.Listen), preset: "127.0.0.1:8201",
			doc: "Where operators reach this node: a TCP address, always TLS with a certificate of the cluster's own authority, or `unix:/path` for a socket that only this user may open."},

		{key: "cluster.listen", value: hostPort(&f.Cluster.Listen), preset: "0.0.0.0:8202",
			doc: "The port on which nodes meet each other, always TLS in both directions."},
		{key: "cluster.advertise", value: optional(hostPort(&f.Cluster.Advertise)),
			doc: "The address under which the other nodes reach it. Needed if `cluster.listen` names no single address."},
		{key: "cluster.replication", value: oneOf(&f.Cluster.Replication, 1, 3), preset: "3", shared: true,
			doc: "On how many nodes each shard is, where there are as many. 3 survives the loss of one node, 1 of none."},
		{key: "cluster.shards", value: number(&f.Cluster.Shards, 1, 64), preset: "16", shared: true,
			doc: "How many parts the data is cut into. Fixed for the life of the cluster."},
		{key: "cluster.dead_after", value: duration(&f.Cluster.DeadAfter, 5*time.Second, 24*time.Hour), preset: "60s", shared: true,
			doc: "After how long without a sign of life the replicas of a node are made anew on others."},
		{key: "cluster.handover_window", value: duration(&f.Cluster.HandoverWindow, time.Second, 24*time.Hour), preset: "10m", shared: true,
			doc: "How long after its end a node that starts again is given the keys without a person. Later a custodian admits it."},
		{key: "cluster.installs", value: number(&f.Cluster.Installs, 1, 64), preset: "2",
			doc: "How many replicas one node takes over at once, when it joins or replaces another. What the node that leads the directory says is what counts."},

		{key: "recovery.mode", value: mode(&f.Recovery.Mode), needed: true, shared: true,
			doc: "`none`: what people deposited is in memory only and gone when all nodes have stopped. There is no other in this version, so it has to be said."},

		{key: "memory.lock", value: choice(&f.Memory.Lock, "auto", "required", "off"), preset: "auto",
			doc: "`required` refuses to start if not all memory can be locked, `auto` always locks the keys and the records where the limit allows, `off` locks nothing."},
		{key: "memory.limit", value: size(&f.Memory.Limit, 1<<20, 1<<44), preset: "4GiB",
			doc: "How much memory the sealed records may take."},

		{key: "audit.file", value: path(&f.Audit.File),
			doc: "The file with a line for every request. Default: `audit.log` in `node.data`."},
		{key: "audit.on_failure", value: choice(&f.Audit.OnFailure, "deny", "count"), preset: "deny",
			doc: "What becomes of a request when the line can't be written: `deny` refuses it, `count` answers it and counts what is missing."},

		{key: "limits.connections", value: number(&f.Limits.Connections, 1, 1<<20), preset: "4096", reload: true,
			doc: "How many connections the API keeps open at once."},
		{key: "limits.requests", value: number(&f.Limits.Requests, 1, 1<<20), preset: "1024", reload: true,
			doc: "How many requests it serves at once; more are answered 503."},
		{key: "limits.streams", value: number(&f.Limits.Streams, 1, 1<<20), preset: "1024", reload: true,
			doc: "How many streams of events are open at once."},
		{key: "limits.streams_each", value: number(&f.Limits.StreamsEach, 1, 1<<20), preset: "64", reload: true,
			doc: "How many of them one principal may have."},

		{key: "log.level", value: choice(&f.Log.Level, "debug", "info", "warn", "error"), preset: "info", reload: true,
			doc: "What is logged to standard error."},
		{key: "log.format", value: choice(&f.Log.Format, "text", "json"), preset: "text",
			doc: "How a line of the log looks."},
	}
}

// sectionDocs say what the sections are for, in the order of the reference.
var sectionDocs = [...]struct{ name, doc string }{
	{"node", "Who this node is."},
	{"api", "The front door for services."},
	{"operator", "The side door for operators: `/v1/sys`, metrics, health."},
	{"cluster", "How nodes meet, and how data is spread over them."},
	{"recovery", "What is on disk."},
	{"memory", "Memory for records and keys."},
	{"audit", "The record of who asked for what."},
	{"limits", "What callers can make a node hold at once."},
	{"log", "The log of the node itself; it never holds a value."},
}

// later are keys of the design that this version has nothing behind.
func later(key string) bool {
	switch key {
	case "api.cors", "recovery.snapshot_every", "recovery.retention", "audit.retention":
		return true
	}
	return false
}
