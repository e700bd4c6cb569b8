# What a person types. Each target works alone on a fresh machine: it fetches what it needs first.
#
#   make demo     upgrade two live shards under load, go back with one, and count what clients saw     (ARGS="--json")
#   make demo-kube  the same in Kubernetes, each cutover behind a CSI snapshot (needs KUBECONFIG and UNDERSTUDY_TEST_CLUSTER=1)
#   make test     every test, on real servers        make bench   CPU per command beside peers and the bare floor (ARGS="--rounds 9")
#   make cost     instructions per command of the core, held to their limits
#   make lint     as CI reads the code               make docs    the API's own pages
#   make fmt      formats                            make tools   servers of five versions into .tools/
#   make image    the container image, by docker, podman or buildah         (IMAGE=registry.example/understudy:0.1.0)

.PHONY: test demo demo-kube bench cost lint docs docs-backups fmt tools image

# cargo-nextest runs the tests when it is there: it reads .config/nextest.toml. Without it cargo does, and the few threads
# keep tests that start servers from measuring each other.
test: tools
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked; \
	else \
		cargo test --workspace --locked --no-fail-fast -- --test-threads=2; \
	fi

demo: tools
	@cargo run --quiet --release --locked -- demo $(ARGS)

# An API server with its controller manager is enough: the tests play nodes and CSI driver themselves.
demo-kube:
	@if [ "$$UNDERSTUDY_TEST_CLUSTER" != 1 ] || [ -z "$$KUBECONFIG" ]; then \
		echo "demo-kube: needs KUBECONFIG, of an admin of a cluster that may be used (no nodes wanted), and UNDERSTUDY_TEST_CLUSTER=1"; \
		exit 1; \
	fi
	@$(MAKE) --no-print-directory tools
	@cargo test --quiet --locked --test kube -- --nocapture --test-threads=1

bench: tools
	@cargo bench --quiet --profile dist --locked --bench compare -- $(ARGS)

cost: tools
	@cargo bench --quiet --locked --package understudy-proxy --bench core

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package understudy --no-default-features --locked -- -D warnings

# Writes docs/backups from the recipes and what the player makes of them.
docs-backups:
	UNDERSTUDY_WRITE=1 cargo test --quiet --locked -p understudy-kube --test player -- docs::

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

fmt:
	cargo fmt --all

tools:
	@scripts/tools.sh

# Needs no root for podman and buildah. Takes minutes: it is optimized as a whole.
IMAGE ?= understudy:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
image:
	@builder=$$(command -v docker || command -v podman || command -v buildah) || { \
		echo "image: needs docker, podman or buildah"; exit 1; \
	}; \
	"$$builder" build -t "$(IMAGE)" .
