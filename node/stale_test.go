package node_test

import (
	"strings"
	"testing"
	"time"

	"cloakroom/node"
)

// A node whose view of the directory has run out says so to whoever touches
// subjects, the schema or events, and to whom it does not know, since that may
// be somebody new. It still says how it is. With a new lease it goes on.
func TestANodeWithAnOldViewAnswersNobody(t *testing.T) {
	var u [3]uptime
	i := 0
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Uptime, i = u[i].now, i+1 })
	last := nodes[2]
	d := last.deposit(ada)
	page := `{"ids":["` + d.ID + `"],"fields":["display_name"]}`
	calls := []struct{ method, path, body string }{
		{"POST", "/v1/resolve", page},
		{"GET", "/v1/subjects/" + d.ID, ""},
		{"POST", "/v1/subjects", ada},
		{"PATCH", "/v1/subjects/" + d.ID, `{"fields":{"display_name":"Ada King"}}`},
		{"DELETE", "/v1/subjects/" + d.ID, ""},
		{"GET", "/v1/schema", ""},
		{"GET", "/v1/events", ""},
	}
	for _, c := range calls {
		// It asks for a new lease at once, so a call may come too late.
		await(t, c.method+" "+c.path+" is refused", func() bool {
			u[2].advance(28 * time.Second)
			got := last.call(c.method, c.path, c.body, "Cloakroom-Consistency", "linearizable")
			if got.status == 503 && !strings.Contains(got.body, "/problems/directory-stale") {
				t.Fatalf("%s %s: %s", c.method, c.path, got.body)
			}
			return got.status == 503
		})
		await(t, "it goes on", func() bool { return last.call("GET", "/v1/schema", "").status == 200 })
	}
	await(t, "somebody unknown is told so", func() bool {
		u[2].advance(28 * time.Second)
		return last.call("POST", "/v1/resolve", page, "Authorization", "Bearer nobody").status == 503
	})
	u[2].advance(28 * time.Second)
	last.call("GET", "/v1/sys/status", "").want(t, 200, "")
	last.call("GET", "/metrics", "").want(t, 200, "")
	await(t, "it goes on", func() bool { return last.call("POST", "/v1/resolve", page).status == 200 })
	if !strings.Contains(last.node.AuditLines(), `"outcome":"directory-stale"`) {
		t.Error("no refusal is recorded")
	}
}
