package nodefile

import (
	"fmt"
	"strings"
)

// Reference returns the description of every key, as docs/configuration.md
// has it.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(referenceHead)
	list := settings(&File{})
	for _, section := range sectionDocs {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | default | what it is |\n|---|---|---|\n", section.name, section.doc)
		for _, s := range list {
			if strings.HasPrefix(s.key, section.name+".") {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.key, s.presetText(), s.text())
			}
		}
	}
	return []byte(b.String())
}

const referenceHead = `# The configuration file of a node

Made from the code (` + "`go test ./cmd/cloakroom/nodefile -update`" + `): do not edit it here.

One YAML file for each node, without anchors and tags. An unknown key is a fault, and so is one that is there twice.
` + "`cloakroom node check-config --config FILE`" + ` lists all faults with their lines and does nothing else. A file holds no secret.

` + "```yaml" + `
node:     { name: n1, zone: a, data: /var/lib/cloakroom }
api:      { listen: 0.0.0.0:8200, tls: internal }
operator: { listen: 127.0.0.1:8201 }
cluster:  { listen: 0.0.0.0:8202, advertise: n1.example.org:8202 }
recovery: { mode: none }
` + "```" + `

**shared** keys are the same on all nodes of a cluster: ` + "`cloakroom node init`" + ` takes them from the founder's file, and a node whose
file says otherwise is refused. One that leaves them out takes them from the cluster. **reload** keys are taken over by a
running node on SIGHUP; what else has changed is named in the log and takes a restart.
`

func (s *setting) presetText() string {
	switch {
	case s.needed:
		return "needed"
	case s.preset == "":
		return "none"
	}
	return "`" + s.preset + "`"
}

func (s *setting) text() string {
	text := s.doc + " Wants " + s.value.want + "."
	if s.shared {
		text += " **shared**"
	}
	if s.reload {
		text += " **reload**"
	}
	return text
}
