# Targets for people and for CI: `make help` lists them.

GO       ?= go
PKGS     ?= ./...
GOTEST   ?= $(GO) test
TESTARGS ?=
FUZZTIME ?= 20s
BENCHARGS ?=
# The version that the binary tells: the tag, or the commit, of a git checkout.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# Tools that are no part of the program run from outside go.mod, each at one version.
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   ?= golang.org/x/vuln/cmd/govulncheck@v1.8.0

.DEFAULT_GOAL := help
.PHONY: help bench build demo demo-down deps test test-faults test-libvirtd test-modular test-short test-vault lint vulncheck fuzz cover clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./virtrust, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o virtrust ./cmd/virtrust

demo: ## secure three real hosts, started for it on this machine, and move a guest (Debian, root)
	$(GO) run ./integration/demo up

demo-down: ## remove what make demo left
	$(GO) run ./integration/demo down

deps: ## install the Debian packages of the lab and of the tests (root)
	@tools/deps
	$(GO) run ./integration/lab/labctl deps

# Root may run the lab, so a root without its packages gets them first. Others
# skip the lab's tests; with REQUIRE_LAB=1 or CI=true a skip is a failure.
test: $(if $(filter 0,$(shell id -u)),deps) ## run all tests, with root also those on real hosts
	$(GOTEST) -timeout 30m $(TESTARGS) $(PKGS)

# Hundreds of applies, each with one fault; most labs only wait, so several run at once.
test-faults: deps ## run the whole sweep of faults on real hosts (root)
	REQUIRE_LAB=1 VIRTRUST_FAULTS=full $(GO) test -tags faults -count=1 -timeout 90m -parallel 16 -v -skip 'Alone$$' $(TESTARGS) ./integration/faults

# What libvirtd does without virtrust is measured where nothing else runs.
test-libvirtd: deps ## measure what a reload and a restart of libvirtd do by themselves (root)
	REQUIRE_LAB=1 $(GO) test -tags faults -count=1 -timeout 20m -v -run 'Alone$$' $(TESTARGS) ./integration/faults

bench: deps ## measure plan, apply and renewal over many hosts, in Markdown (root)
	$(GO) run ./integration/bench/speed $(BENCHARGS)

# The first run builds libvirt from Debian's source package, some minutes.
test-modular: deps ## run the tests on hosts with the modular daemons (root)
	REQUIRE_LAB=1 $(GO) test -tags modular -count=1 -timeout 60m -v $(TESTARGS) -run Modular ./integration/layouts

# The first run builds Vault, some minutes. make test replays what was recorded of it.
test-vault: deps ## run the tests of kind = "vault" on hosts against a real Vault (root)
	REQUIRE_LAB=1 $(GO) test -tags vault -count=1 -timeout 30m -v $(TESTARGS) -run 'TestVault|TestExternalExample' ./integration/e2e

test-short: ## run the tests that need no lab and little time
	$(GO) test -short -timeout 5m $(TESTARGS) $(shell $(GO) list $(PKGS) | grep -v -e /integration/)

lint: vulncheck ## run the linters of .golangci.yml, and govulncheck
	$(GO) vet $(PKGS)
	$(GO) run $(GOLANGCI_LINT) run $(PKGS)

vulncheck: ## look for known vulnerabilities in what the code calls
	@tools/vulncheck '$(GO)' '$(GOVULNCHECK)' $(PKGS)

fuzz: ## run every fuzz target for FUZZTIME (20s)
	@tools/fuzz '$(GO)' '$(FUZZTIME)' $(PKGS)

cover: ## measure coverage into cover.out and cover.html
	$(GO) test -timeout 30m -coverpkg=./... -coverprofile=cover.out $(TESTARGS) $(PKGS)
	$(GO) tool cover -func=cover.out | tail -n 1
	$(GO) tool cover -html=cover.out -o cover.html

clean: ## remove what build and cover made
	rm -f virtrust cover.out cover.html
