# What there is to type: make help
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
MODULES := . test/cluster test/cluster/coredns test/cluster/netpol test/peers tools/buf tools/lint
GO_BUILD := CGO_ENABLED=0 go build -trimpath

.PHONY: help build worker demo test test-cluster test-kernel cluster-up cluster-down bench generate generate-proto generate-bpf verify verify-proto verify-bpf verify-modules packages lint image clean
.DEFAULT_GOAL := build

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

build: worker ## Build bin/hodei, its links for kubectl, and bin/hodei-worker
	$(GO_BUILD) -ldflags "-s -w -X github.com/hodei-jobs/hodei/pkg/cli.version=$(VERSION)" -o bin/ ./cmd/hodei
	ln -sf hodei bin/kubectl-hodei
	ln -sf hodei bin/kubectl_complete-hodei

worker: ## Build bin/hodei-worker: static, for Linux
	GOOS=linux $(GO_BUILD) -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/hodei-worker

demo: build ## Run a command through agent, launcher and mTLS on this machine; no cluster needed
	@test/demo

test: ## Run all tests that this machine can, and name the others
	test/run

test-cluster: ## Run the tests that need a cluster, on the one of test/cluster
	test/run cluster

test-kernel: ## Run the tests of what talks to the kernel in virtual machines, on Debian's kernels
	test/run kernel

cluster-up: ## Start a Kubernetes cluster on this machine, with the images of the tests
	test/cluster/cluster up && test/cluster/images

cluster-down: ## End that cluster
	test/cluster/cluster down

bench: build ## Measure; takes some ten minutes and a cluster in the current context
	go test -run '^$$' -bench . -benchmem ./agent/... ./pkg/hodeipb/... ./pkg/coordinator/...
	go -C test/peers build -o $(CURDIR)/bin/ . && bin/peers
	test/kernel/run bench
	go run ./test/bench

generate: generate-proto generate-bpf ## Generate what is generated

generate-proto: ## Generate pkg/hodeipb from its .proto
	go build -C tools/buf -o $(CURDIR)/bin/ github.com/bufbuild/buf/cmd/buf
	bin/buf generate

generate-bpf: ## Generate agent/probe's programs from their C (see packages)
	go generate ./agent/probe

# unchanged PATTERNS: fails if files that are generated differ from what is committed, or are not committed
unchanged = git diff --exit-code -- $(1) && ! git ls-files --others --exclude-standard -- $(1) | grep . >&2

verify: verify-proto verify-bpf verify-modules ## Fail if the protocol breaks what runs, or what is generated, or a go.mod, is not up to date

verify-proto: generate-proto
	bin/buf lint
	@tools/buf/breaking
	@$(call unchanged,'pkg/hodeipb/*.pb.go')

verify-bpf: generate-bpf
	@$(call unchanged,'agent/probe/*_bpfe[lb].*')

verify-modules:
	@for module in $(MODULES); do echo "go mod tidy -diff in $$module"; go -C $$module mod tidy -diff || exit 1; done

packages: ## Install what generate-bpf and verify need, if it is missing (Debian 12, as root)
	@tools/packages clang-14 llvm-14 libbpf-dev

lint: ## Run golangci-lint (built here, which takes a while the first time)
	go build -C tools/lint -o $(CURDIR)/bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...

image: ## Build the worker's image with docker, or with buildah where no docker answers
	$(shell docker version >/dev/null 2>&1 && echo docker || echo buildah) build -f Dockerfile.worker --build-arg VERSION=$(VERSION) -t hodei-jobs-worker:latest $(IMAGE_FLAGS) .

clean: ## Remove what was built here
	rm -rf bin
