package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
	"cloakroom/node/folder"
	"cloakroom/securemem"
	"cloakroom/securemem/recovery"
)

// InitConfig is what a cluster is founded with.
type InitConfig struct {
	Folder string
	FS     disk.FS // default: the machine's
	Name   string  // of the founding node

	// Of the whole cluster, for good or until somebody changes it.
	Settings directory.Settings // Replication and LeaseMillis: 0 is the default
	Shards   int                // 0: 16
	Schema   []directory.Field  // none: one to begin with

	// Custodians are age recipients: each is sent one share. Without any the
	// caller prints Shares shares.
	Custodians []string
	Shares     int // 0: one per custodian; 1 for a single person, otherwise 3
	Threshold  int // 0: a majority of the shares, and 2 at least unless SinglePerson
	// SinglePerson founds a cluster in which nothing needs a second person.
	SinglePerson bool
	// Operator, Access and Auditor are age recipients of the tokens of these
	// roles. Where none is named a custodian gets the token, to pass it on.
	Operator, Auditor string
	Access            []string // two, or one for a single person

	// Deliver takes the encrypted files before the folder is made, so that no
	// cluster is founded whose shares went nowhere. It is needed where there
	// are custodians.
	Deliver func(cluster, fingerprint string, files []Delivery) error

	Memory securemem.Config
	// KeepDumpable leaves the process as it is; for tests, which share it.
	KeepDumpable bool
}

// Delivery is an age file for one person.
type Delivery struct {
	Name string // of the file
	For  string // who can open it: "custodian 2", "operator"
	What string // what is in it, in words
	Data []byte
}

// Initialised is what [Init] leaves to its caller. Shares and Tokens are those
// that were not encrypted to anybody. Close wipes them.
type Initialised struct {
	Cluster     string // id
	Fingerprint string // of the node's TLS key
	Recovery    string // fingerprint of the shares
	Shares      []*securemem.Secret
	Tokens      []RoleToken
	Threshold   int        // how many shares it takes
	Count       int        // of how many
	Files       []Delivery // what was delivered, without Data

	memory *securemem.Memory
}

// RoleToken is the bearer token of one of the first principals.
type RoleToken struct {
	Principal string
	Token     *securemem.Secret
}

// Close wipes all secrets.
func (i *Initialised) Close() error { return i.memory.Close() }

// Init makes the folder of a node that founds a cluster at its first start. It
// draws the recovery secret, the first tokens and the node's TLS key, and none
// but the last of them gets to the disk. It reports every fault of cfg, and
// nothing is left behind after an error.
func Init(cfg InitConfig) (*Initialised, error) {
	plan, err := cfg.plan()
	if err != nil {
		return nil, fmt.Errorf("found cluster: %w", err)
	}
	memory, err := securemem.Open(plan.cfg.Memory)
	if err != nil {
		return nil, fmt.Errorf("found cluster: %w", err)
	}
	if !cfg.KeepDumpable {
		memory.Harden() // what could not be had is told by the node that runs
	}
	made := &Initialised{memory: memory, Cluster: plan.foundation.Cluster.String(), Threshold: plan.threshold, Count: plan.shares}
	if err := plan.run(made); err != nil {
		return nil, errors.Join(fmt.Errorf("found cluster: %w", err), made.Close())
	}
	return made, nil
}

// initPlan is an InitConfig that was understood.
type initPlan struct {
	cfg        InitConfig
	foundation foundation
	shares     int
	threshold  int
	custodians []recovery.Holder
	holders    map[string]recovery.Holder // of tokens, by principal
	roles      []role
}

// role is one of the first principals.
type role struct {
	name  string
	grant directory.Grant
}

// plan fills in defaults and reports all faults.
func (cfg InitConfig) plan() (*initPlan, error) {
	if cfg.FS == nil {
		cfg.FS = disk.OS()
	}
	cfg.Settings = settingsOf(cfg.Settings, cfg.SinglePerson)
	if cfg.Shards == 0 {
		cfg.Shards = defaultShards
	}
	if len(cfg.Schema) == 0 {
		cfg.Schema = devSchema()
	}
	p := &initPlan{cfg: cfg, holders: map[string]recovery.Holder{}}
	faults := p.count()
	p.roles = rolesOf(cfg.SinglePerson, p.shares)
	faults = append(faults, p.people()...)
	if cfg.Folder == "" {
		faults = append(faults, errors.New("node.data is missing: a node that founds a cluster needs a folder"))
	} else if err := vacant(cfg.FS, cfg.Folder); err != nil {
		faults = append(faults, err)
	}
	if mode := cfg.Settings.RecoveryMode; mode != "none" {
		faults = append(faults, fmt.Errorf("recovery.mode %q is not in this version: want none", mode))
	}
	if !directory.ValidName(cfg.Name) {
		faults = append(faults, fmt.Errorf("node.name %q: want lower-case letters, digits, '_', '-' and '.', a letter first", cfg.Name))
	}
	faults = append(faults, p.rehearse())
	return p, errors.Join(faults...)
}

const defaultShards = 16

// settingsOf fills in what a cluster is founded with.
func settingsOf(s directory.Settings, singlePerson bool) directory.Settings {
	if s.Replication == 0 {
		s.Replication = replication
	}
	if s.LeaseMillis == 0 {
		s.LeaseMillis = leaseMillis
	}
	if s.RecoveryMode == "" {
		s.RecoveryMode = "none"
	}
	s.SinglePerson = singlePerson
	return s
}

const leaseMillis = 3000

// count finds how many shares there are, and how many it takes.
func (p *initPlan) count() (faults []error) {
	cfg, n := &p.cfg, p.cfg.Shares
	least, usual := 2, 3
	if cfg.SinglePerson {
		least, usual = 1, 1
	}
	switch {
	case len(cfg.Custodians) > 0 && n == 0:
		n = len(cfg.Custodians)
	case len(cfg.Custodians) > 0 && n != len(cfg.Custodians):
		faults = append(faults, fmt.Errorf("%d shares for %d custodians: each custodian gets one share, leave the number out", n, len(cfg.Custodians)))
	case n == 0:
		n = usual
	}
	k := cfg.Threshold
	if k == 0 {
		k = max(n/2+1, least)
	}
	switch {
	case n < 1 || n > recovery.MaxShares:
		faults = append(faults, fmt.Errorf("%d shares: want 1 to %d", n, recovery.MaxShares))
	case k < least && k >= 1:
		faults = append(faults, errors.New("one share alone would open everything: want a threshold of 2 at least, or say --single-person"))
	case k < 1 || k > n:
		faults = append(faults, fmt.Errorf("a threshold of %d for %d shares: want %d to %d", k, n, min(least, n), n))
	}
	p.shares, p.threshold = max(n, 0), k
	return faults
}

// people reads the recipients.
func (p *initPlan) people() (faults []error) {
	cfg := &p.cfg
	read := func(who, text string) (h recovery.Holder) {
		h, err := recovery.ParseHolder(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", who, err))
		}
		return h
	}
	for i, text := range cfg.Custodians {
		for j := range i {
			if cfg.Custodians[j] == text && !cfg.SinglePerson {
				faults = append(faults, fmt.Errorf("custodians %d and %d are one: one person would hold two shares", j+1, i+1))
			}
		}
		p.custodians = append(p.custodians, read(fmt.Sprintf("custodian %d", i+1), text))
	}
	access := roleNames(p.roles, "access")
	if n := len(cfg.Access); n != 0 && n != len(access) {
		faults = append(faults, fmt.Errorf("%d recipients for access tokens: want %d", n, len(access)))
	}
	for i, name := range access[:min(len(access), len(cfg.Access))] {
		p.holders[name] = read(name, cfg.Access[i])
	}
	for name, text := range map[string]string{"operator": cfg.Operator, "auditor": cfg.Auditor} {
		if text != "" {
			p.holders[name] = read(name, text)
		}
	}
	if len(p.holders) > 0 && len(cfg.Custodians) == 0 {
		faults = append(faults, errors.New("recipients for tokens and none for shares: name the custodians"))
	}
	if len(cfg.Custodians) > 0 && cfg.Deliver == nil {
		faults = append(faults, errors.New("no place for the encrypted files: name a folder with --out"))
	}
	return faults
}

// rolesOf lists the first principals. Custodians are people of their own where
// there is more than one person.
func rolesOf(singlePerson bool, custodians int) []role {
	grant := func(actions ...directory.Action) directory.Grant {
		return directory.Grant{Actions: actions, Form: directory.FormMasked}
	}
	auditor := grant(directory.Audit, directory.SchemaRead, directory.SchemaWrite, directory.Erase, directory.Status)
	auditor.AllFields, auditor.AllDomains, auditor.AllIssuers = true, true, true
	roles := []role{{"operator", grant(directory.Operate, directory.Status, directory.Metrics)}}
	if singlePerson {
		return append(roles, role{"access", grant(directory.Access)}, role{"auditor", auditor})
	}
	roles = append(roles, role{"access-1", grant(directory.Access)}, role{"access-2", grant(directory.Access)}, role{"auditor", auditor})
	for i := range custodians {
		roles = append(roles, role{fmt.Sprintf("custodian-%d", i+1), grant(directory.Custody)})
	}
	return roles
}

// roleNames lists the roles of a kind: "access" is access, access-1, access-2.
func roleNames(roles []role, kind string) (names []string) {
	for _, r := range roles {
		if r.name == kind || len(r.name) > len(kind) && r.name[:len(kind)+1] == kind+"-" {
			names = append(names, r.name)
		}
	}
	return names
}

// rehearse holds settings and schema to what the directory takes, with made-up
// hashes in place of those to come.
func (p *initPlan) rehearse() error {
	_, _ = rand.Read(p.foundation.Cluster[:]) // never fails
	f := &p.foundation
	f.Format, f.Shards, f.Settings, f.Schema = foundationFormat, p.cfg.Shards, p.cfg.Settings, p.cfg.Schema
	for _, r := range p.roles {
		f.Principals = append(f.Principals, founder{Name: r.name, Grant: r.grant, TokenHash: sha256.Sum256([]byte(r.name))})
	}
	return f.checkDirectory()
}

// vacant returns an error if there is something of a node in dir.
func vacant(fsys disk.FS, dir string) error {
	f, err := folder.Open(fsys, dir)
	switch {
	case errors.Is(err, folder.ErrNone):
		return nil
	case err == nil:
		return errors.Join(fmt.Errorf("%s: %w: a cluster is founded in a new folder", dir, folder.ErrExists), f.Close())
	}
	return err
}

// run draws, delivers and writes.
func (p *initPlan) run(made *Initialised) error {
	public, shares, err := recovery.Make(made.memory, p.foundation.Cluster, p.threshold, p.shares)
	if err != nil {
		return err
	}
	p.foundation.Recovery, made.Shares, made.Recovery = *public, shares, public.Fingerprint()
	for i := range p.foundation.Principals {
		token, err := drawToken(made.memory)
		if err != nil {
			return err
		}
		who := &p.foundation.Principals[i]
		made.Tokens = append(made.Tokens, RoleToken{who.Name, token})
		token.Use(func(b []byte) { who.TokenHash = sha256.Sum256(b) })
	}
	key, fingerprint, err := makeNodeKey()
	if err != nil {
		return err
	}
	made.Fingerprint = fingerprint
	founding, err := p.foundation.encode()
	if err == nil {
		_, err = decodeFoundation(founding) // what can't be read later is not written
	}
	if err != nil {
		return err
	}
	if len(p.custodians) > 0 {
		if err := p.deliver(made); err != nil {
			return err
		}
	}
	return p.write(key, founding)
}

// drawToken draws a bearer token: 32 random bytes, base64url.
func drawToken(memory *securemem.Memory) (*securemem.Secret, error) {
	const random = 32
	token, err := memory.NewSecret(base64.RawURLEncoding.EncodedLen(random))
	if err != nil {
		return nil, fmt.Errorf("draw token: %w", err)
	}
	token.Use(func(to []byte) {
		var b [random]byte
		_, err = io.ReadFull(rand.Reader, b[:])
		base64.RawURLEncoding.Encode(to, b[:])
		clear(b[:])
	})
	if err != nil {
		return nil, fmt.Errorf("draw token: %w", err)
	}
	return token, nil
}

// makeNodeKey makes the TLS key of a node, P-256 in PEM of PKCS #8, and its
// fingerprint. It is the one secret in a node's folder.
func makeNodeKey() (text []byte, fingerprint string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make TLS key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("write TLS key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, "", fmt.Errorf("write TLS key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), keyFingerprint(public), nil
}

// keyFingerprint names a public key: "sha256:" and base64url of SHA-256 of its
// SubjectPublicKeyInfo.
func keyFingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// deliver encrypts everything to its holder, hands it to the caller, and keeps
// nothing in clear.
func (p *initPlan) deliver(made *Initialised) error {
	var files []Delivery
	add := func(name, who, what string, to recovery.Holder, secret *securemem.Secret) error {
		data, err := recovery.Deliver(to, secret)
		files = append(files, Delivery{Name: name + ".age", For: who, What: what, Data: data})
		return err
	}
	for i, share := range made.Shares {
		who := fmt.Sprintf("custodian-%d", i+1)
		if err := add(who+".share", who, "a share, to unseal the cluster with", p.custodians[i], share); err != nil {
			return err
		}
		share.Destroy()
	}
	next := 0 // custodian who is asked to pass the next token on
	for _, t := range made.Tokens {
		to, who := p.holders[t.Principal], t.Principal
		var number int
		if _, err := fmt.Sscanf(t.Principal, "custodian-%d", &number); err == nil {
			to = p.custodians[number-1]
		} else if _, named := p.holders[t.Principal]; !named {
			to, who = p.custodians[next%len(p.custodians)], fmt.Sprintf("custodian-%d", next%len(p.custodians)+1)
			next++
		}
		if err := add(t.Principal+".token", who, "the token of "+t.Principal, to, t.Token); err != nil {
			return err
		}
		t.Token.Destroy()
	}
	made.Shares, made.Tokens = nil, nil
	for _, f := range files {
		made.Files = append(made.Files, Delivery{Name: f.Name, For: f.For, What: f.What})
	}
	return p.cfg.Deliver(made.Cluster, made.Fingerprint, files)
}

// write makes the folder. What it has written when something fails is removed:
// the folder held no node before.
func (p *initPlan) write(key, founding []byte) error {
	f, err := folder.Create(p.cfg.FS, p.cfg.Folder, folder.Node{Name: p.cfg.Name, Cluster: folder.Cluster(p.foundation.Cluster)})
	if err != nil {
		return err
	}
	if err = f.SaveKey(key); err == nil {
		err = f.SaveFounding(founding)
	}
	if err != nil {
		for _, name := range []string{"founding.json", "node.key", "node.json"} {
			_ = p.cfg.FS.Remove(filepath.Join(p.cfg.Folder, name))
		}
	}
	return errors.Join(err, f.Close())
}
