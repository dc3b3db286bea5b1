# `make` lists the targets. Cargo builds Weir. This file installs or names the other tools that are needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-grafana miri loom lint bench bench-pick bench-route bench-balance bench-scale bench-instructions \
	bench-failing-backend bench-rate-limits bench-compress bench-streams audit testssl release \
	package package-check fuzz fuzz-all \
	soak soak-run soak-tests need-build need-servers need-grafana need-load

CARGO ?= cargo
NEED := scripts/need.sh
# Options for `make bench` and `make run`, e.g. BENCH="--rounds 9 --only weir,bare"
BENCH ?=
SCALE ?=
DEMO ?=
# Duration of the load of `make soak`, in seconds. The value of bash's own SECONDS is ignored.
SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),300)

# Cargo profiles: `trial` builds fast (run), `release` is optimized without LTO (testssl, soak-tests), `dist` is shipped and
# measured (release, bench*, soak-run). test and lint use `dev`.
DIST := $(CARGO) build --profile dist --locked --bin weir

# A target of `make fuzz`.
TARGET ?=

# The commit that weir_build_info reports. Only src/main.rs reads it, so another commit compiles no other crate.
run bench bench-balance bench-scale bench-instructions bench-failing-backend bench-rate-limits bench-compress bench-streams soak soak-run release package: export WEIR_COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: need-build ## build the binary and run the demo: three backends, the proxy, the admin page
	$(CARGO) build --profile trial --locked --bin weir
	@echo "This is a quick build for a trial. \`make release\` builds the optimized binary."
	target/trial/weir demo $(DEMO)

test: test-rust test-grafana ## run every test: unit, end to end, documentation, dashboards and rules

test-rust: need-build need-servers ## run unit tests, end-to-end tests and the examples of the documentation
	$(CARGO) test --locked --workspace --no-fail-fast

test-grafana: need-build need-grafana ## test dashboards and rules with a real Prometheus that scrapes a real weir
	@# The binary of cargo test: a plain build would compile some dependencies again with fewer features.
	$(CARGO) test --locked --workspace --no-run --quiet
	python3 grafana/test.py target/debug/weir

miri: need-build ## the tests of the crates in crates/ under Miri (needs a nightly toolchain)
	scripts/miri.sh

loom: need-build ## the waker with a second thread, in every order
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked -p weir-task --lib --target-dir target/loom

lint: need-build ## check formatting, clippy, and dependencies (bans, licences, sources)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/deny.sh bans licenses sources

audit: need-build ## check the dependencies for known vulnerabilities (fetches the RustSec database)
	scripts/deny.sh advisories

testssl: need-build ## run testssl.sh on a TLS listener; a finding above LOW fails
	@$(NEED) testssl=testssl.sh openssl=openssl python3=python3
	$(CARGO) build --release --locked --bin weir
	scripts/testssl.sh target/release/weir

bench: need-build need-load ## compare with a bare Pingora proxy, nginx, HAProxy and Caddy (BENCH="--cases all", "--help")
	@$(NEED) haproxy=haproxy
	@bench/caddy.sh
	python3 bench/run.py $(BENCH)

bench-pick: need-build ## measure time and allocations of a pick: each balancer, 10 to 10,000 backends, 1 and 2 threads
	$(CARGO) bench --profile dist --locked --bench pick

bench-balance: need-build ## compare balancers on unequal and failing backends with nginx and HAProxy (BENCH="--help" for options)
	@$(NEED) python3=python3 nginx=nginx haproxy=haproxy wrk=wrk taskset=util-linux
	python3 bench/balance.py $(BENCH)

bench-route: need-build ## measure the time of a route look-up: 10 to 10,000 hosts
	$(CARGO) bench --profile dist --locked --bench route

bench-scale: need-build need-load ## measure 10 to 10,000 routes and backends: start, reload, memory, scrape, CPU per request
	$(DIST)
	python3 bench/scale.py $(SCALE)

bench-instructions: need-build need-load ## count instructions per request with callgrind (BENCH="--binary NAME=PATH" adds another weir)
	@$(NEED) valgrind=valgrind
	$(DIST)
	python3 bench/instructions.py $(BENCH)

bench-rate-limits: need-build need-load ## measure the cost of a rate limit: CPU and instructions of a request; compare with nginx and HAProxy
	@$(NEED) valgrind=valgrind haproxy=haproxy
	$(DIST)
	python3 bench/rate_limits.py $(BENCH)

bench-compress: need-build need-load ## measure the CPU time of compression at each encoding and level; compare with nginx
	@$(NEED) curl=curl
	$(DIST)
	python3 bench/compress.py $(BENCH)

bench-failing-backend: need-build ## count lost requests while one of three backends fails; compare with nginx, HAProxy and Caddy
	@$(NEED) python3=python3 nginx=nginx haproxy=haproxy taskset=util-linux
	@bench/caddy.sh
	$(DIST)
	python3 bench/failing_backend.py $(BENCH)

bench-streams: need-build ## measure how late the pieces of streams arrive; compare with nginx, HAProxy and Caddy (BENCH="--help" for options)
	@$(NEED) python3=python3 curl=curl nginx=nginx haproxy=haproxy openssl=openssl taskset=util-linux
	@bench/caddy.sh
	$(DIST)
	python3 bench/streams.py $(BENCH)

soak: soak-tests soak-run ## run the long tests, then mixed traffic with reloads, kills and aborts for SECONDS=300

soak-run: need-build need-load
	$(DIST)
	python3 bench/soak.py --seconds $(SECONDS)

soak-tests: need-build need-servers
	@# The simulation runs with overflow checks. The other tests run on the release build.
	$(CARGO) test --locked --lib -- --ignored --nocapture --test-threads=1
	$(CARGO) test --locked --release --test it -- --ignored --nocapture --test-threads=1
	@# The same tests of rate limits as in `make test`, for longer: a minute of a fleet, a hundred reloads.
	WEIR_FLEET_SECONDS=60 WEIR_LIMIT_RELOADS=100 $(CARGO) test --locked --release --test it rate_limit -- --nocapture --test-threads=1

release: need-build ## build the shipped binary with the profile of a training run and pack it as target/packages/weir-VERSION-TARGET.tar.gz
	scripts/release.sh

package: release ## pack the released binary as a Debian package, and write SHA256SUMS
	@$(NEED) objcopy=binutils python3=python3
	scripts/package.sh

package-check: need-build ## install, upgrade under load and purge the package in a chroot; lintian; the image; two builds (as root, after `make package`)
	@$(NEED) debootstrap=debootstrap lintian=lintian buildah=buildah python3=python3 ip=iproute2 unshare=util-linux
	scripts/package_check.sh

fuzz: need-build ## fuzz one target: TARGET=request_head SECONDS=300 (without TARGET, it lists the targets)
	scripts/fuzz.sh "$(TARGET)" $(SECONDS)

fuzz-all: need-build ## fuzz each target for SECONDS=300, one after the other
	scripts/fuzz.sh all $(SECONDS)

need-build:
	@$(NEED) cargo=rust cc=gcc+libc6-dev cmake=cmake

need-servers:
	@$(NEED) curl=curl dnsmasq=dnsmasq-base htpasswd=apache2-utils pebble=pebble promtool=prometheus redis-server=redis-server python3=python3 zstd=zstd
	@scripts/valkey.sh
	@scripts/brotli.sh
	@scripts/browser.sh

need-load:
	@$(NEED) python3=python3 nginx=nginx wrk=wrk h2load=nghttp2-client openssl=openssl taskset=util-linux

need-grafana:
	@$(NEED) python3=python3 openssl=openssl prometheus=prometheus promtool=prometheus redis-server=redis-server
