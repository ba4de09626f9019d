package node

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
	"cloakroom/node/api"
	"cloakroom/node/policy"
)

// The catalogue of metrics. Labels hold names of this program, of the schema
// and of the directory only. A test fails when one is declared and never
// exposed.
var (
	metricInfo = prometheus.NewDesc("cloakroom_info",
		"Always 1; the labels say how this node protects its memory.", []string{"version", "backend", "lock", "erasure"}, nil)
	metricHardening = prometheus.NewDesc("cloakroom_hardening",
		"1 if the hardening step holds, 0 if it could not be had.", []string{"check"}, nil)
	metricLocked = prometheus.NewDesc("cloakroom_memory_locked_bytes",
		"Bytes locked into RAM, by purpose.", []string{"purpose"}, nil)
	metricMapped = prometheus.NewDesc("cloakroom_memory_mapped_bytes",
		"Bytes mapped outside the Go heap, by purpose.", []string{"purpose"}, nil)
	metricArenaLimit = prometheus.NewDesc("cloakroom_arena_limit_bytes",
		"Most bytes that sealed records and their index may take.", nil, nil)
	metricArenaUsed = prometheus.NewDesc("cloakroom_arena_used_bytes",
		"Bytes of live records and index pages.", nil, nil)
	metricArenaMapped = prometheus.NewDesc("cloakroom_arena_mapped_bytes",
		"Bytes of chunks in the hands of shards.", nil, nil)
	metricPoolTotal = prometheus.NewDesc("cloakroom_pool_bytes",
		"Size of the pool of guarded request and reply buffers.", nil, nil)
	metricPoolUsed = prometheus.NewDesc("cloakroom_pool_used_bytes",
		"Bytes of the pool that requests hold.", nil, nil)
	metricPoolRefused = prometheus.NewDesc("cloakroom_pool_refused_total",
		"Requests that were refused because the pool was empty.", nil, nil)
	metricSubjects = prometheus.NewDesc("cloakroom_shard_subjects",
		"Subjects that are not erased, in the replica here.", []string{"shard"}, nil)
	metricErased = prometheus.NewDesc("cloakroom_shard_erased",
		"Marks of erased subjects, in the replica here.", []string{"shard"}, nil)
	metricLedger = prometheus.NewDesc("cloakroom_ledger_erasures",
		"Erasures in the ledger of the directory, in the replica here.", nil, nil)
	metricLedgerLimit = prometheus.NewDesc("cloakroom_ledger_limit",
		"Erasures the ledger can hold; none is acknowledged beyond them.", nil, nil)
	metricQueue = prometheus.NewDesc("cloakroom_shard_queue_bytes",
		"Commands that wait here for their turn.", []string{"shard"}, nil)
	metricRole = prometheus.NewDesc("cloakroom_shard_role",
		"1 for the role of the replica here. This and what follows has the directory too, as shard \"directory\".", []string{"shard", "role"}, nil)
	metricLeading = prometheus.NewDesc("cloakroom_shard_leading",
		"1 if the replica here leads.", []string{"shard"}, nil)
	metricLeaderKnown = prometheus.NewDesc("cloakroom_shard_leader_known",
		"1 if this node knows a leader, 0 during an election or without a majority.", []string{"shard"}, nil)
	metricMajority = prometheus.NewDesc("cloakroom_shard_majority",
		"1 if a majority of voters was heard lately; without, the shard answers nothing.", []string{"shard"}, nil)
	metricTolerates = prometheus.NewDesc("cloakroom_shard_tolerates",
		"Further replicas that can be lost while the shard goes on.", []string{"shard"}, nil)
	metricTerm = prometheus.NewDesc("cloakroom_shard_term",
		"Term of the replica here; it goes up with every election.", []string{"shard"}, nil)
	metricApplied = prometheus.NewDesc("cloakroom_shard_applied_index",
		"Log index of the newest command applied.", []string{"shard"}, nil)
	metricLag = prometheus.NewDesc("cloakroom_shard_lag_entries",
		"Entries known to be committed and not applied here.", []string{"shard"}, nil)
	metricLease = prometheus.NewDesc("cloakroom_shard_lease_seconds",
		"How long the replica here may still answer reads by itself; 0: they go to the leader.", []string{"shard"}, nil)
	metricLeases = prometheus.NewDesc("cloakroom_shard_leases",
		"Replicas that hold a read lease granted by the replica here.", []string{"shard"}, nil)
	metricLeaseFailures = prometheus.NewDesc("cloakroom_lease_failures_total",
		"Read leases that replicas here asked for and did not get.", nil, nil)
	metricLogBytes = prometheus.NewDesc("cloakroom_shard_log_bytes",
		"Bytes of the log in memory.", []string{"shard"}, nil)
	metricCompactions = prometheus.NewDesc("cloakroom_shard_snapshots_total",
		"Snapshots taken to shorten the log.", []string{"shard"}, nil)
	metricInstalled = prometheus.NewDesc("cloakroom_snapshots_opened_total",
		"Sealed snapshots of other nodes that were opened here, their signature verified.", nil, nil)
	metricNodes = prometheus.NewDesc("cloakroom_nodes",
		"Registered nodes, by whether they were heard of lately.", []string{"alive"}, nil)
	metricViewLease = prometheus.NewDesc("cloakroom_directory_lease_seconds",
		"How long requests may still be decided by this node's view of the directory; at 0 they are refused as directory-stale.", nil, nil)
	metricViewFailures = prometheus.NewDesc("cloakroom_directory_lease_failures_total",
		"Leases of its view that this node asked the directory's leader for and did not get.", nil, nil)
	metricPrincipals = prometheus.NewDesc("cloakroom_principals",
		"Principals in the directory, by state.", []string{"state"}, nil)
	metricRequests = prometheus.NewDesc("cloakroom_principal_requests",
		"Requests for principals that wait to be approved.", nil, nil)
	metricClockSkew = prometheus.NewDesc("cloakroom_clock_skew",
		"1 if no majority of clocks agrees in a shard led here, or the only one was set: nothing expires there.", nil, nil)
	metricClockAhead = prometheus.NewDesc("cloakroom_clock_ahead_seconds",
		"How far another node's clock was ahead of this one's when it last answered.", []string{"node"}, nil)
	metricDiskFull = prometheus.NewDesc("cloakroom_disk_full",
		"1 if the disk of the directory's log is nearly full: leading, this node refuses all but erasures and what heals the cluster.", nil, nil)
	metricRefounded = prometheus.NewDesc("cloakroom_shards_refounded_total",
		"Shards that this node, leading the directory, had begin anew, empty: all that had their content were gone.", nil, nil)
	metricConnections = prometheus.NewDesc("cloakroom_cluster_connections",
		"Connections open at the cluster port.", nil, nil)
	metricCalls = prometheus.NewDesc("cloakroom_cluster_calls_total",
		"Calls to other nodes: propose, read and change are what leaders elsewhere were asked to do, confirm what rounds before a read ask.", []string{"method"}, nil)
	metricRefused = prometheus.NewDesc("cloakroom_cluster_refused_total",
		"Handshakes refused at the cluster port, by reason.", []string{"reason"}, nil)
	metricGossipAlive = prometheus.NewDesc("cloakroom_gossip_alive_nodes",
		"Other nodes that some node still hears, by the gossip: a hint.", nil, nil)
	metricGossipDropped = prometheus.NewDesc("cloakroom_gossip_dropped_total",
		"Packets of gossip that found no way to their node.", nil, nil)
	metricStreams = prometheus.NewDesc("cloakroom_event_streams",
		"Streams of events that are open.", nil, nil)
	metricStreamsDropped = prometheus.NewDesc("cloakroom_event_streams_dropped_total",
		"Streams of events that were ended because the subscriber did not read.", nil, nil)
	metricStreamGaps = prometheus.NewDesc("cloakroom_event_gaps_total",
		"How often a subscriber that was reading had missed changes and was told to drop everything.", nil, nil)
	metricEntries = prometheus.NewDesc("cloakroom_entries_total",
		"Nodes that asked here to be let in by a join token, by what became of it. used-token: somebody has a token who should not.", []string{"verdict"}, nil)
	metricHandovers = prometheus.NewDesc("cloakroom_key_handovers_total",
		"Times that a node asked here for the keys, by what became of it. Each granted one should have a cause that you know.", []string{"verdict"}, nil)
	metricCertificate = prometheus.NewDesc("cloakroom_certificate_expires_seconds",
		"When this node's certificate expires, Unix time; it is renewed long before. 0: it has none.", nil, nil)
	metricAuditEntries = prometheus.NewDesc("cloakroom_audit_entries_total",
		"Audit entries written.", nil, nil)
	metricAuditDenied = prometheus.NewDesc("cloakroom_audit_denied_total",
		"Requests denied because the audit log could not be written.", nil, nil)
	metricAuditLost = prometheus.NewDesc("cloakroom_audit_lost_total",
		"Requests answered without a sure audit entry (on_failure: count).", nil, nil)
)

// catalogue lists every metric of the collector above.
var catalogue = []*prometheus.Desc{
	metricInfo, metricHardening, metricLocked, metricMapped, metricArenaLimit, metricArenaUsed,
	metricArenaMapped, metricPoolTotal, metricPoolUsed, metricPoolRefused, metricSubjects,
	metricErased, metricLedger, metricLedgerLimit, metricQueue, metricRole, metricLeading, metricLeaderKnown, metricMajority, metricTolerates,
	metricTerm, metricApplied, metricLag, metricLease, metricLeases, metricLeaseFailures, metricLogBytes, metricCompactions, metricInstalled, metricNodes,
	metricViewLease, metricViewFailures, metricPrincipals, metricRequests, metricDiskFull, metricRefounded, metricClockSkew, metricClockAhead, metricConnections, metricCalls, metricRefused, metricGossipAlive, metricGossipDropped,
	metricStreams, metricStreamsDropped, metricStreamGaps, metricEntries, metricHandovers, metricCertificate, metricAuditEntries, metricAuditDenied, metricAuditLost,
}

// collector reads the counters of the rooms when somebody asks.
type collector struct{ node *Node }

// Describe sends the catalogue.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range catalogue {
		out <- desc
	}
}

// Collect sends every metric once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	n := c.node
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	count := func(desc *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, v)
	}
	memory, arena, pool := n.memory.Status(), n.memory.Arena().Stats(), n.memory.Pool().Stats()
	gauge(metricInfo, 1, Version(), memory.Backend, memory.Lock, memory.Erasure)
	for _, check := range memory.Hardening {
		gauge(metricHardening, oneIf(check.OK), check.Name)
	}
	for purpose, bytes := range memory.Locked {
		gauge(metricLocked, float64(bytes), purpose)
	}
	for purpose, bytes := range memory.Mapped {
		gauge(metricMapped, float64(bytes), purpose)
	}
	gauge(metricArenaLimit, float64(arena.Limit))
	gauge(metricArenaUsed, float64(arena.Used))
	gauge(metricArenaMapped, float64(arena.Mapped))
	gauge(metricPoolTotal, float64(pool.Total))
	gauge(metricPoolUsed, float64(pool.InUse))
	count(metricPoolRefused, float64(pool.Refused))
	c.collectCluster(gauge)
	c.collectTraffic(gauge, out)
	if n.server != nil {
		front := n.server.Stats()
		gauge(metricStreams, float64(front.Streams))
		count(metricStreamsDropped, float64(front.Dropped))
	}
	c.collectGate(gauge, out)
	count(metricStreamGaps, float64(n.feed.Status().Gaps))
	stats := n.audit.Stats()
	count(metricAuditEntries, float64(stats.Entries))
	count(metricAuditDenied, float64(stats.Denied))
	count(metricInstalled, float64(n.installed.Load()))
	count(metricRefounded, float64(n.cluster.Refounded()))
	count(metricAuditLost, float64(stats.Lost))
}

// collectGate sends what became of those who wanted in.
func (c collector) collectGate(gauge func(*prometheus.Desc, float64, ...string), out chan<- prometheus.Metric) {
	g := &c.node.gate
	for _, verdict := range wire.Verdicts() {
		for desc, counts := range map[*prometheus.Desc]*verdicts{metricEntries: &g.entries, metricHandovers: &g.handovers} {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(counts[verdict].Load()), verdict.String())
		}
	}
	gauge(metricCertificate, c.node.papers.expires())
}

// roles are the values of the label role.
var roles = []cluster.Role{cluster.Absent, cluster.CatchingUp, cluster.Follower, cluster.Leader, cluster.Parked}

// collectCluster sends what belongs to one shard each, and who is there.
func (c collector) collectCluster(gauge func(*prometheus.Desc, float64, ...string)) {
	all := c.node.cluster.Status()
	c.collectGroup(gauge, "directory", &all.Directory)
	for i := range all.Shards {
		s, shard := &all.Shards[i], strconv.Itoa(i)
		gauge(metricSubjects, float64(s.Subjects), shard)
		gauge(metricErased, float64(s.Erased), shard)
		gauge(metricQueue, float64(s.QueueBytes), shard)
		gauge(metricLease, s.Lease.Valid.Seconds(), shard)
		gauge(metricLeases, float64(s.Lease.Granted), shard)
		c.collectGroup(gauge, shard, &s.GroupStatus)
	}
	gauge(metricClockSkew, oneIf(all.ClockSkew))
	gauge(metricDiskFull, oneIf(all.DiskFull))
	gauge(metricViewLease, all.View.Valid.Seconds())
	c.collectPrincipals(gauge)
	gauge(metricLedger, float64(all.Erasures))
	gauge(metricLedgerLimit, directory.MaxErasures)
	alive, gone := 0, 0
	for _, node := range nodesOf(c.node.cluster.Directory(), &all) {
		if node.Alive {
			alive++
		} else {
			gone++
		}
	}
	gauge(metricNodes, float64(alive), "yes")
	gauge(metricNodes, float64(gone), "no")
}

func (c collector) collectGroup(gauge func(*prometheus.Desc, float64, ...string), shard string, s *cluster.GroupStatus) {
	for _, role := range roles {
		gauge(metricRole, oneIf(s.Role == role), shard, string(role))
	}
	gauge(metricLeading, oneIf(s.Role == cluster.Leader), shard)
	gauge(metricLeaderKnown, oneIf(s.Leader != ""), shard)
	gauge(metricMajority, oneIf(s.Majority), shard)
	gauge(metricTolerates, float64(s.Tolerates), shard)
	gauge(metricTerm, float64(s.Term), shard)
	gauge(metricApplied, float64(s.Applied), shard)
	gauge(metricLag, float64(s.Lag), shard)
	gauge(metricLogBytes, float64(s.LogBytes), shard)
	gauge(metricCompactions, float64(s.Compactions), shard)
}

// collectPrincipals sends how many there are.
func (c collector) collectPrincipals(gauge func(*prometheus.Desc, float64, ...string)) {
	view, now := c.node.cluster.Directory(), c.node.now().Unix()
	counts := make(map[string]int, len(principalStates))
	for _, p := range view.Principals {
		counts[principalState(p, now)]++
	}
	for _, state := range principalStates {
		gauge(metricPrincipals, float64(counts[state]), state)
	}
	waiting := 0
	for _, r := range view.Requests {
		if r.Expires > now {
			waiting++
		}
	}
	gauge(metricRequests, float64(waiting))
}

// collectTraffic sends what passes between this node and the others.
func (c collector) collectTraffic(gauge func(*prometheus.Desc, float64, ...string), out chan<- prometheus.Metric) {
	traffic := c.node.cluster.Traffic()
	gauge(metricConnections, float64(traffic.Connections))
	out <- prometheus.MustNewConstMetric(metricLeaseFailures, prometheus.CounterValue, float64(traffic.LeaseFailures))
	out <- prometheus.MustNewConstMetric(metricViewFailures, prometheus.CounterValue, float64(traffic.ViewFailures))
	gauge(metricGossipAlive, float64(traffic.Spoken))
	out <- prometheus.MustNewConstMetric(metricGossipDropped, prometheus.CounterValue, float64(traffic.GossipDropped))
	for _, clock := range traffic.Clocks {
		gauge(metricClockAhead, clock.Ahead.Seconds(), clock.Node)
	}
	for desc, counts := range map[*prometheus.Desc]map[string]uint64{metricCalls: traffic.Calls, metricRefused: traffic.Refused} {
		for label, n := range counts {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// requestMetrics are the metrics that requests feed as they end.
type requestMetrics struct {
	seconds *prometheus.HistogramVec
	total   *prometheus.CounterVec
}

// requestBuckets are in seconds, four to a power of ten where answers lie.
var requestBuckets = []float64{25e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 750e-6,
	1e-3, 1.5e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 2.5, 10}

func newRequestMetrics() requestMetrics {
	return requestMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloakroom_request_seconds", Buckets: requestBuckets,
			Help: "Time from the header of a request to the last byte of its answer.",
		}, []string{"route"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloakroom_requests_total", Help: "Requests answered, by status.",
		}, []string{"route", "status"}),
	}
}

// observe takes in one answered request.
func (m *requestMetrics) observe(route string, status int, took time.Duration) {
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
	m.total.WithLabelValues(route, statusText(status)).Inc()
}

// statusText is the status in digits; 200, by far the most frequent, without
// making a string.
func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// newRegistry returns a registry of this node's own: go-metrics and the
// default registry are process-wide and would mix the nodes of one process.
func (n *Node) newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{n}, n.requests.seconds, n.requests.total)
	return r
}

// Metrics serves the metrics to whoever may see them. Only refusals are
// recorded: whoever watches the node needs its metrics most when the audit log
// can't be written.
func (n *Node) Metrics(ctx context.Context, req *api.Request) (http.Handler, error) {
	if _, err := n.operate(ctx, req, req.Caller.(*caller), policy.Metrics); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}), nil
}
