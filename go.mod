module cloakroom

go 1.26.0

require (
	filippo.io/age v1.3.2 // the encrypted stream of a snapshot
	filippo.io/edwards25519 v1.2.0 // signing that leaves no private key on the heap
	github.com/HdrHistogram/hdrhistogram-go v1.1.2 // latency percentiles of the benchmark
	github.com/anishathalye/porcupine v1.3.1 // tests decide whether there is an order that explains what clients saw
	github.com/awnumar/memguard v0.23.0 // guarded buffers where memfd_secret is missing
	github.com/cloudflare/circl v1.6.5 // k-of-n shares of the recovery secret
	github.com/dgraph-io/ristretto/v2 v2.4.2 // bounded caches whose loss is harmless: verified credentials, resolved values in the client
	github.com/getkin/kin-openapi v0.152.0 // tests hold the server to its OpenAPI file
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3 // strict JSON: a schema, lines of an import, and what our own scanner is tested against
	github.com/goccy/go-yaml v1.19.2 // the configuration file of a node, with the lines of its faults
	github.com/hashicorp/go-hclog v1.6.3 // the logger interface that raft asks for
	github.com/hashicorp/memberlist v0.7.0 // gossip: which nodes others still hear
	github.com/hashicorp/raft v1.8.0 // consensus among the replicas of a shard
	github.com/nyaruka/phonenumbers v1.8.1 // phone numbers as E.164 when a file is imported
	github.com/prometheus/client_golang v1.25.0 // metrics in the form everybody scrapes
	github.com/rogpeppe/go-internal v1.16.0 // tests as scripts and archives anyone can read
	github.com/spf13/cobra v1.10.2 // commands, flags, help and shell completion
	github.com/vbauerster/mpb/v8 v8.12.0 // the progress bar of an import
	go.uber.org/goleak v1.3.0 // tests fail when a goroutine is left behind
	golang.org/x/crypto v0.58.0 // XChaCha20-Poly1305, for the log of the directory
	golang.org/x/sys v0.49.0 // memfd_secret, mlock, madvise and prctl
	pgregory.net/rapid v1.3.0 // property tests that shrink what fails
)

require (
	filippo.io/hpke v0.4.0 // indirect
	github.com/VividCortex/ewma v1.2.0 // indirect
	github.com/acarl005/stripansi v0.0.0-20180116102854-5a71ef0e047d // indirect
	github.com/awnumar/memcall v0.4.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/bwesterb/go-ristretto v1.2.4 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/clipperhouse/uax29/v2 v2.7.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/fatih/color v1.13.0 // indirect
	github.com/go-openapi/jsonpointer v0.22.5 // indirect
	github.com/go-openapi/swag/jsonname v0.25.5 // indirect
	github.com/google/btree v1.1.3 // indirect
	github.com/gorilla/mux v1.8.0 // indirect
	github.com/hashicorp/errwrap v1.1.0 // indirect
	github.com/hashicorp/go-immutable-radix v1.3.1 // indirect
	github.com/hashicorp/go-metrics v0.7.0 // indirect
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
	github.com/hashicorp/go-sockaddr v1.0.7 // indirect
	github.com/hashicorp/golang-lru v1.0.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mattn/go-colorable v0.1.12 // indirect
	github.com/mattn/go-isatty v0.0.14 // indirect
	github.com/mattn/go-runewidth v0.0.20 // indirect
	github.com/miekg/dns v1.1.73 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/oasdiff/yaml v0.1.1 // indirect
	github.com/oasdiff/yaml3 v0.0.14 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	github.com/sean-/seed v0.0.0-20170313163322-e2103e2c3529 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
