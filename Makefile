# Cloakroom. `make` with no target lists what there is.
#
# Needs Go and make; no root, no network beyond the module proxy Go is set to.

GO       ?= go
FUZZTIME ?= 5m
PEOPLE   ?= 1000
SEEDS    ?= 1000
FROM     ?= 1
TIME     ?= 30m
MANY     ?= 500
FIRST    ?= 8200
ARGS     ?=

# The Go command needs a home for its caches. Where there is none, one is made here.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.cache
endif

# Go wipes what a working thread leaves in registers, stack and heap only when
# built so. A plain `go build` works too and says `erasure: off` in its status.
export GOEXPERIMENT := runtimesecret
export GOFLAGS      := $(strip $(GOFLAGS) -buildvcs=false)

# The rooms with a file for each of the two ways to build.
TWO_WAYS = ./securemem/... ./node/record/...

# Tools have a module file of their own. They are built the plain way and run
# with whatever the recipe sets.
tool = "$$(GOEXPERIMENT= $(GO) tool -modfile=tools.mod -n $(1))"

.DEFAULT_GOAL := help
.PHONY: help build run cluster test race chaos histories fuzz lint vuln bench clean

help: ## list these targets
	@echo 'usage: make [target]'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

# The commit goes into the binary where git will tell it.
STAMP = $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)

build: ## build bin/cloakroom
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(STAMP) -o bin/cloakroom ./cmd/cloakroom

run: build ## start a throw-away cluster of three nodes with PEOPLE=1000 sample people; ARGS="--listen …" goes along
	./bin/cloakroom dev --nodes 3 --people $(PEOPLE) $(ARGS)

cluster: build ## start three nodes as processes in a temporary folder, ports from FIRST=8200 on, and say what to try
	@./docs/cluster.sh bin/cloakroom $(FIRST)

test: ## run every test, and those of the rooms that differ once more built the plain way
	$(GO) test -timeout 15m ./...
	GOEXPERIMENT= $(GO) test $(TWO_WAYS)

race: ## run every test under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

# Without the post-quantum half of every handshake a seed takes a tenth less.
chaos: ## simulate the cluster under SEEDS=1000 schedules of faults, FROM=1 on, then trouble real processes (needs root); TIME=30m at most, each
	GODEBUG=tlsmlkem=0 SIM_SEEDS=$(SEEDS) SIM_FROM=$(FROM) SIM_BUDGET=$(TIME) $(GO) test -run '^TestSimulation$$' -count 1 -timeout 0 ./cluster
	CHAOS_TIME=$(TIME) $(GO) test -run '^TestChaos$$' -count 1 -timeout 0 -v ./internal/hosts

histories: ## check MANY=500 histories of clients of four real nodes that die and come back
	HISTORIES=$(MANY) $(GO) test -run '^TestHistories$$' -count 1 -timeout 0 -v ./node

fuzz: ## fuzz each target for FUZZTIME=5m
	@set -e; \
	grep -rhHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' --exclude-dir=.cache --exclude-dir=testdata . | sort | \
	while IFS=: read -r file target; do \
		echo "== $${file%/*} $${target#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) "$${file%/*}" < /dev/null || exit 1; \
	done

lint: ## vet and staticcheck in both build modes, and the rules of the house
	$(GO) vet ./...
	$(GO) vet -tags dumptest ./...
	$(call tool,staticcheck) ./...
	GOEXPERIMENT= $(GO) vet ./...
	GOEXPERIMENT= $(call tool,staticcheck) ./...
	$(GO) test ./internal/lint
	@$(MAKE) --no-print-directory vuln

vuln: ## look for known vulnerabilities; skipped where the database cannot be reached
	@out=$$($(call tool,govulncheck) ./... 2>&1) && rc=0 || rc=$$?; \
	case "$$out" in \
	*'fetching vulnerabilities'*) echo 'vuln: skipped, the vulnerability database cannot be reached' ;; \
	*) printf '%s\n' "$$out"; exit $$rc ;; \
	esac

bench: build ## measure beside Redis, tables in bench/out; ARGS="-quick" or "-only http,memory"
	$(GO) run ./bench/cmd $(ARGS)

clean: ## remove what was built
	rm -rf bin
