package dumptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
	"cloakroom/securemem/keyring"
	"cloakroom/securemem/recovery"
)

// founded is a cluster that `node init` made: what was given away, and how its
// node is run.
type founded struct {
	program, folder, config string
	api, operator           string
	client                  *http.Client

	Cluster string   `json:"cluster_id"`
	Shares  []string `json:"shares"`
	tokens  []string
}

func initCluster(t *testing.T, program string) *founded {
	t.Helper()
	c := &founded{program: program, folder: t.TempDir()}
	c.config = filepath.Join(c.folder, "n1.yaml")
	addrs := freeAddrs(t, 3)
	c.api, c.operator = addrs[0], addrs[1]
	text := fmt.Sprintf("node: { name: n1, data: data }\napi: { listen: %q }\noperator: { listen: %q }\ncluster: { listen: %q }\nrecovery: { mode: none }\nmemory: { limit: 64MiB }\n",
		addrs[0], addrs[1], addrs[2])
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "node", "init", "--config", c.config,
		"--single-person", "--print-secrets", "--shares", "3", "--threshold", "2", "--json").Output()
	if err != nil {
		t.Fatalf("node init: %v", err)
	}
	var all map[string]any
	if err := json.Unmarshal(out, c); err != nil || json.Unmarshal(out, &all) != nil {
		t.Fatal(err)
	}
	for name, value := range all {
		if token, is := value.(string); is && strings.HasSuffix(name, "_token") {
			c.tokens = append(c.tokens, token)
		}
	}
	if len(c.Shares) != 3 || len(c.tokens) != 3 {
		t.Fatalf("init gave %d shares and %d tokens", len(c.Shares), len(c.tokens))
	}
	// The certificate is of the cluster's own authority, on loopback.
	c.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return c
}

// run starts the node and waits until it is in a stage.
func (c *founded) run(t *testing.T, stage string) *exec.Cmd {
	t.Helper()
	node := exec.CommandContext(t.Context(), c.program, "node", "run", "--config", c.config)
	node.Stderr = &lockedBuffer{}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
		if t.Failed() {
			t.Logf("%s", node.Stderr.(*lockedBuffer).buf.Bytes())
		}
	})
	c.await(t, stage)
	return node
}

// await asks the node for its stage until it is the one wanted.
func (c *founded) await(t *testing.T, stage string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var status struct{ Stage string }
		if answer, err := c.client.Get("https://" + c.operator + "/v1/sys/status"); err == nil {
			err = json.NewDecoder(answer.Body).Decode(&status)
			answer.Body.Close()
			if err == nil && status.Stage == stage {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the node is %q, want %q", status.Stage, stage)
		}
	}
}

// unseal gives the node a share.
func (c *founded) unseal(t *testing.T, share string) {
	t.Helper()
	answer, err := c.client.Post("https://"+c.operator+"/v1/sys/unseal", "application/json", strings.NewReader(`{"share":"`+share+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("unseal: %s", answer.Status)
	}
}

// opened is what the custodians could bring out of the keyring file.
func (c *founded) opened(t *testing.T, mem *securemem.Memory) (blob, seed *securemem.Secret, control string) {
	t.Helper()
	number, err := hex.DecodeString(c.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	id := [16]byte(number)
	file, err := os.ReadFile(filepath.Join(c.folder, "data", "keyring.age"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := keyring.ReadFileHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	gathering, err := recovery.NewGathering(recovery.Config{Memory: mem, Cluster: id, Public: header.Recovery})
	if err != nil {
		t.Fatal(err)
	}
	defer gathering.Close()
	for _, share := range c.Shares[:2] {
		if _, seed, err = gathering.Offer([]byte(share)); err != nil {
			t.Fatal(err)
		}
	}
	ring, _, err := keyring.OpenFile(keyring.Config{Memory: mem, Cluster: id,
		NextSealingNumber: func() (cloakroom.SealingNumber, error) { return 1, nil }}, file, hybrid.NewIdentity(seed))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	if blob, err = ring.Encode(); err != nil {
		t.Fatal(err)
	}
	return blob, seed, header.Recovery.Recipient
}

// mustNotBeFound makes the patterns: shares, their values, the recovery seed,
// tokens, and all keys. The class "control" is public and must be found, or the
// search looks at the wrong place.
func (c *founded) mustNotBeFound(t *testing.T) *Patterns {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	blob, seed, public := c.opened(t, mem)
	var keys []Key
	blob.Use(func(b []byte) { // drawn in keyring/blob.go
		for at := 63; at < len(b); at += 45 {
			keys = append(keys, Key{fmt.Sprintf("key of purpose %d", b[at]), bytes.Clone(b[at+13 : at+45])})
		}
	})
	seed.Use(func(b []byte) { keys = append(keys, Key{"recovery seed", bytes.Clone(b)}) })
	p := new(Patterns)
	shares, tokens := p.Class("share", Window), p.Class("token", Window)
	for i, share := range c.Shares {
		payload := strings.TrimPrefix(share, "cloakroom-share-1.")
		raw, err := base64.RawURLEncoding.DecodeString(payload)
		if err != nil {
			t.Fatal(err)
		}
		// Fingerprint, threshold and index, the first ten bytes, are public.
		keys = append(keys, Key{fmt.Sprintf("value of share %d", i+1), raw[10:42]})
		p.Add(shares, []byte(payload[14:]))
	}
	for _, token := range c.tokens {
		p.Add(tokens, []byte(token))
	}
	AddKeys(p, keys)
	p.Add(p.Class(control, 64), []byte(public))
	return p
}

const control = "control"

// judge dumps the node and wants nothing found but the control.
func (c *founded) judge(t *testing.T, node *exec.Cmd, when string, patterns *Patterns) {
	t.Helper()
	core := dumpOrSkip(t, node.Process.Pid, "node")
	defer os.Remove(core)
	found, err := ScanCore(core, patterns)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d MiB in %d segments: %v", when, found.MemoryBytes>>20, found.Segments, found.Memory)
	seen := false
	for _, count := range found.Memory {
		if count.Class == control {
			seen = true
		} else {
			t.Errorf("%s: %s", when, count)
		}
	}
	if !seen {
		t.Errorf("%s: what is public was not found: the search is blind", when)
	}
}

// TestNodeRunKeepsSharesAndKeys: after the first start, while custodians unseal,
// and after they have, no dump of the node holds a share, the recovery secret,
// a token that init made, or a key.
func TestNodeRunKeepsSharesAndKeys(t *testing.T) {
	requireNodeDump(t)
	c := initCluster(t, buildNode(t))
	node := c.run(t, "ready")
	patterns := c.mustNotBeFound(t)
	c.judge(t, node, "after founding", patterns)
	if err := node.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := node.Wait(); err != nil {
		t.Errorf("the node ended: %v", err)
	}

	node = c.run(t, "sealed")
	c.unseal(t, c.Shares[2])
	c.judge(t, node, "after one share", patterns)
	c.unseal(t, c.Shares[0])
	c.await(t, "ready")
	c.judge(t, node, "after unseal", patterns)
}
