# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Targets install what they need, by apt where they may; `scripts/need` says what is missing otherwise.

SECONDS ?= 60
MINUTES ?= 10
CARGO ?= cargo
NEXTEST := $(CARGO) nextest run --workspace --no-fail-fast

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint fmt doc unit unit-mmsg instructions instructions-accept fuzz bench bench-docs overload coverage deny interop need-build need-test need-nextest

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: need-build ## The whole system in one process, with clients that change networks
	$(CARGO) run --release --quiet -- demo $(ARGS)

test: lint unit unit-mmsg instructions doc ## What gates every change: formatting, lints, all tests, what decisions cost, documentation

test-all: test deny coverage fuzz bench ## The gate, and everything that takes long

lint: need-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- --deny warnings

unit: need-test need-nextest
	$(NEXTEST)

# What `auto` is on a system that has no io_uring, or keeps it from the LB.
unit-mmsg: need-test need-nextest ## The LB's tests once more, and those end to end, as if there were no io_uring
	scripts/without-uring $(NEXTEST) -E '(package(lb) | package(onevip) & (binary(e2e) | binary(cli) | binary(allocations) | binary(browser))) & not test(uring)'

instructions: need-build ## What each row of the decision table costs in instructions, held to a baseline
	scripts/instructions

instructions-accept: need-build ## Make what it costs now the baseline
	scripts/instructions accept

# Examples in doc comments run, and broken links in them are errors.
doc: need-build
	$(CARGO) test --workspace --doc --quiet
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --quiet

fmt: ## Format everything
	$(CARGO) fmt --all

fuzz: need-build ## Every fuzz target for SECONDS each (default 60); needs a nightly toolchain
	scripts/fuzz $(SECONDS)

bench: need-build need-bench ## What wire, the engine, forwarding, and a fleet on a local etcd cost; forwarding takes root
	@scripts/need etcd=etcd-server
	$(CARGO) bench --workspace --bench wire --bench engine --bench fleet --bench forward --quiet

bench-docs: need-build need-bench ## What forwarding costs, to docs/bench
	ONEVIP_BENCH_DOCS=1 $(CARGO) bench -p forward --quiet

overload: need-build need-bench ## An LB at twice what one core forwards, for MINUTES (default 10)
	$(CARGO) bench -p forward --quiet -- --overload $(MINUTES)

coverage: need-build ## Line coverage of wire, which must be at least 90 %
	scripts/coverage

deny: need-build ## Licences, advisories, sources and duplicate versions of all dependencies
	scripts/deny

interop: need-build ## SFUs of other people behind the LB, to docs/interop.md; PEERS=janus,… tries some
	scripts/interop $(PEERS)

need-build:
	@scripts/need cc=gcc,libc6-dev protoc=protobuf-compiler,libprotobuf-dev

# No command tells whether Python makes environments, so that is asked of it.
need-test: need-build
	@scripts/need ip=iproute2 nft=nftables curl=curl chromium=chromium chromedriver=chromium-driver etcd=etcd-server etcdctl=etcd-client dig=bind9-dnsutils
	@python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/need ensurepip=python3-venv

# Forwarders of other people, to stand beside; Quilkin, too, if somebody installed it.
need-bench:
	@scripts/need ip=iproute2 nft=nftables nginx=nginx,libnginx-mod-stream

need-nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked --quiet cargo-nextest
