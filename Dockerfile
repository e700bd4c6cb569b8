# The image: one static binary and nothing else. No shell, no package manager, no root.
#
#   make image                          or: docker build, podman build, buildah build; for the machine's own architecture
#   docker run --read-only --tmpfs /var/lib/understudy:uid=65532 -v ./understudy.yaml:/understudy.yaml:ro understudy serve -c /understudy.yaml
#
# glibc rather than musl: the allocator that the benchmarks and tests ran with. Linked statically it still asks DNS by itself
# (since glibc 2.34), and /etc/hosts too.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
# With a target named, the flag counts for the binary and not for what runs while building. Linked to anything else, it would not start.
RUN set -eu; \
    target="$(rustc -vV | sed -n 's/^host: //p')"; \
    cargo build --profile dist --locked --target "$target" --bin understudy; \
    install -D -m 0755 "target/$target/dist/understudy" /out/understudy; \
    if readelf -d /out/understudy | grep -q NEEDED; then echo "the binary is not static" >&2; exit 1; fi; \
    mkdir -p /out/etc /out/data; \
    echo 'understudy:x:65532:65532::/:/sbin/nologin' > /out/etc/passwd; \
    echo 'understudy:x:65532:' > /out/etc/group; \
    echo 'hosts: files dns' > /out/etc/nsswitch.conf

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/etc/ /etc/
COPY --from=build --chown=65532:65532 /out/data/ /var/lib/understudy/
COPY --from=build /out/understudy /understudy
USER 65532:65532
# No HEALTHCHECK: Kubernetes probes /healthz and /readyz itself, and there is nothing here that a health command could run.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/understudy"]
CMD ["--help"]
