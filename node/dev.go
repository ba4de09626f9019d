package node

import (
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/node/audit"
	"cloakroom/securemem"
)

// devLogBudget keeps a throw-away node small: the log serves only followers,
// and a single node has none.
const devLogBudget = 2 << 20

// DevConfig is the configuration of `cloakroom dev`: a throw-away node with
// nothing on disk, a schema to play with, and one principal with that token
// who may do everything, which no real principal may.
func DevConfig(token []byte) Config {
	return Config{
		LogBudget: devLogBudget,
		Schema:    devSchema(),
		Audit:     audit.Config{RingBytes: 4 << 20},
		Principals: []Principal{{Name: "dev", Token: token, Grant: directory.Grant{
			Actions: directory.Actions(), AllFields: true, AllDomains: true, AllIssuers: true,
			Form: directory.FormPlain,
		}}},
	}
}

// LimitMemory sets what a command line says about memory: the lock mode by its
// name, and the size of the record arena in bytes, 0 for the default.
func (cfg *Config) LimitMemory(lock string, limit int64) (err error) {
	cfg.Memory.Limit = limit
	cfg.Memory.Lock, err = securemem.ParseLockMode(lock)
	return err
}

func devSchema() []directory.Field {
	const year = 365 * 24 * time.Hour
	field := func(name string, typ directory.FieldType, purposes ...string) directory.Field {
		return directory.Field{Name: name, Type: typ, Purposes: purposes, MaxRetention: 10 * year}
	}
	return []directory.Field{
		field("display_name", directory.Text, "display", "support"),
		field("email", directory.Email, "contact", "support"),
		field("phone", directory.Phone, "contact", "support"),
		field("birth_date", directory.Date, "age-check"),
		field("national_id", directory.Text, "identity-check"),
		field("address", directory.JSON, "shipping"),
	}
}
