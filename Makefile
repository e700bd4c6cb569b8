# What a person types. Each target works alone on a fresh machine: it fetches what it needs first.
#
#   make demo     upgrade two live shards under load, go back with one, and count what clients saw     (ARGS="--json")
#   make test     every test, on real servers        make bench   CPU per command beside peers and the bare floor
#   make lint     as CI reads the code               make docs    the API's own pages
#   make fmt      formats                            make tools   servers of five versions into .tools/

.PHONY: demo test bench lint docs fmt tools
.DEFAULT_GOAL := test

# cargo-nextest runs the tests when it is there; without it cargo does, one test binary at a time and fewer threads, since
# only nextest reads the groups of .config/nextest.toml.
TEST_RUNNER := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)
TEST_FLAGS := $(if $(filter nextest,$(TEST_RUNNER)),--no-fail-fast,--no-fail-fast -- --test-threads=2)

tools:
	@scripts/tools.sh

demo: tools
	@scripts/demo.sh $(ARGS)

test: tools
	cargo $(TEST_RUNNER) --workspace $(TEST_FLAGS)

bench: tools
	@scripts/bench.sh $(ARGS)

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
