package node_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom/cluster/directory"
	"cloakroom/node"
	"cloakroom/node/folder"
	"cloakroom/securemem"
)

// initConfig founds a cluster of one person in a new folder.
func initConfig(t *testing.T) node.InitConfig {
	t.Helper()
	return node.InitConfig{
		Folder: filepath.Join(t.TempDir(), "n1"), Name: "n1", SinglePerson: true,
		Shares: 3, Threshold: 2, KeepDumpable: true, Memory: securemem.Config{Limit: 1 << 20},
	}
}

func initialise(t *testing.T, cfg node.InitConfig) *node.Initialised {
	t.Helper()
	made, err := node.Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// text is what a secret holds.
func text(s *securemem.Secret) (text string) {
	s.Use(func(b []byte) { text = string(bytes.Clone(b)) })
	return text
}

// foundingFile is what the tests read of founding.json.
type foundingFile struct {
	Cluster    string
	Settings   directory.Settings
	Principals []struct {
		Name      string
		TokenHash string `json:"token_hash"`
		Grant     directory.Grant
	}
	Recovery struct {
		Threshold int
		Shares    []string
	}
}

func readFounding(t *testing.T, dir string) (f foundingFile, text []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "founding.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f, text
}

func TestInitOfASinglePerson(t *testing.T) {
	cfg := initConfig(t)
	made := initialise(t, cfg)
	founding, _ := readFounding(t, cfg.Folder)
	if founding.Cluster != made.Cluster || !founding.Settings.SinglePerson || founding.Recovery.Threshold != 2 || len(founding.Recovery.Shares) != 3 {
		t.Errorf("founding.json says %+v", founding)
	}
	var names []string
	for i, p := range founding.Principals {
		names = append(names, p.Name)
		sum := sha256.Sum256([]byte(text(made.Tokens[i].Token)))
		if made.Tokens[i].Principal != p.Name || hex.EncodeToString(sum[:]) != p.TokenHash {
			t.Errorf("%s: founding.json has another hash than that of the token", p.Name)
		}
	}
	if got := strings.Join(names, " "); got != "operator access auditor" {
		t.Errorf("principals are %s", got)
	}
	for _, s := range made.Shares {
		if !strings.HasPrefix(text(s), "cloakroom-share-1.") {
			t.Error("a share is none")
		}
	}
}

// Nothing in the folder is secret but the TLS key: no share, no token, and
// nothing from which they come.
func TestInitLeavesNoSecretOnDisk(t *testing.T) {
	cfg := initConfig(t)
	made := initialise(t, cfg)
	var secrets [][]byte
	for _, s := range made.Shares {
		secrets = append(secrets, []byte(text(s)), []byte(text(s)[len("cloakroom-share-1."):]))
	}
	for _, s := range made.Tokens {
		secrets = append(secrets, []byte(text(s.Token)))
	}
	files := 0
	err := filepath.Walk(cfg.Folder, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if info.IsDir() {
			if info.Mode().Perm() != 0o700 {
				t.Errorf("%s is %v, want 0700", path, info.Mode().Perm())
			}
			return nil
		}
		files++
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v, want 0600", path, info.Mode().Perm())
		}
		content, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(content, s) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestInitRefusesAFolderInUse(t *testing.T) {
	cfg := initConfig(t)
	initialise(t, cfg)
	_, before := readFounding(t, cfg.Folder)
	if _, err := node.Init(cfg); !errors.Is(err, folder.ErrExists) {
		t.Errorf("second init: %v", err)
	}
	if _, after := readFounding(t, cfg.Folder); !bytes.Equal(before, after) {
		t.Error("the second init changed the folder")
	}
}

func TestInitReportsEveryFault(t *testing.T) {
	_, err := node.Init(node.InitConfig{
		Name: "N 1", Shares: 5, Threshold: 1, Custodians: []string{"age1xyz", "AGE-SECRET-KEY-1QQQ", "age1xyz"},
		Access: []string{"age1xyz"}, Operator: "nobody",
		Settings: directory.Settings{Replication: 2, RecoveryMode: "continuous"},
	})
	if err == nil {
		t.Fatal("init of nothing succeeded")
	}
	for _, want := range []string{"node.data", "node.name", "5 shares for 3 custodians", "threshold of 2 at least",
		"custodian 1: ", "custodian 2: it is an age identity", "custodians 1 and 3 are one", "1 recipients for access tokens: want 2",
		"operator: ", "--out", "replication", "recovery.mode"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
	for _, secret := range []string{"age1xyz", "AGE-SECRET-KEY-1QQQ"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%v repeats %s", err, secret)
		}
	}
}

// Each custodian opens a share and a token, and nothing of the others.
func TestInitDeliversToCustodians(t *testing.T) {
	cfg := initConfig(t)
	cfg.SinglePerson, cfg.Shares, cfg.Threshold = false, 0, 0
	var people []age.Identity
	for range 2 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		people, cfg.Custodians = append(people, id), append(cfg.Custodians, id.Recipient().String())
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	people, cfg.Custodians = append(people, pq), append(cfg.Custodians, pq.Recipient().String())
	opens := map[string]string{} // file → content
	cfg.Deliver = func(_, _ string, files []node.Delivery) error {
		if _, err := os.Stat(cfg.Folder); err == nil {
			t.Error("the folder is there before the shares are delivered")
		}
		for _, f := range files {
			var who []int
			for i, id := range people {
				if r, err := age.Decrypt(bytes.NewReader(f.Data), id); err == nil {
					content, _ := io.ReadAll(r)
					opens[f.Name], who = string(content), append(who, i+1)
				}
			}
			if len(who) != 1 {
				t.Errorf("%s can be opened by %v", f.Name, who)
			}
		}
		return nil
	}
	made := initialise(t, cfg)
	if len(made.Shares)+len(made.Tokens) != 0 {
		t.Error("secrets are left in clear")
	}
	founding, _ := readFounding(t, cfg.Folder)
	if founding.Recovery.Threshold != 2 || len(opens) != 3+4+3 {
		t.Errorf("threshold %d, %d files", founding.Recovery.Threshold, len(opens))
	}
	for _, p := range founding.Principals {
		sum := sha256.Sum256([]byte(opens[p.Name+".token.age"]))
		if hex.EncodeToString(sum[:]) != p.TokenHash {
			t.Errorf("%s: the token delivered is not the one of founding.json", p.Name)
		}
	}
	if !strings.HasPrefix(opens["custodian-3.share.age"], "cloakroom-share-1.") {
		t.Error("custodian 3 was sent no share")
	}
}

// Where the files can't be put, no cluster is founded.
func TestInitWithoutDeliveryFoundsNothing(t *testing.T) {
	cfg := initConfig(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Shares, cfg.Threshold, cfg.Custodians = 0, 0, []string{id.Recipient().String()}
	full := errors.New("no room")
	cfg.Deliver = func(string, string, []node.Delivery) error { return full }
	if _, err := node.Init(cfg); !errors.Is(err, full) {
		t.Errorf("init: %v", err)
	}
	if _, err := os.Stat(cfg.Folder); err == nil {
		t.Error("the folder was made")
	}
}
