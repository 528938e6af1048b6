# syntax=docker/dockerfile:1
# The server with the reporter beside it, and git and certificates below them. docs/fly.md says
# how it is deployed; everything that it keeps lies in the volume at /data.

FROM rust:1.95.0-slim-trixie AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package open-dispatch --package sprite-reporter --bins \
    && install -D --target-directory=/out target/release/open-dispatch target/release/sprite-reporter

FROM debian:13-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /data/home --shell /usr/sbin/nologin dispatch \
    && install --directory --owner=dispatch --group=dispatch /data /data/server /data/home
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=0755 deploy/entrypoint /usr/local/bin/entrypoint

# The home lies beside the data directory and not in it: what is in there is hidden from agents.
ENV HOME=/data/home \
    OPEN_DISPATCH_DATA=/data/server \
    OPEN_DISPATCH_LISTEN=[::]:8080 \
    PORT=3978
WORKDIR /data/home
VOLUME /data
# 8080 is for sprites and operators, on a private network. 3978 is for Microsoft Teams alone.
EXPOSE 8080 3978
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["serve"]
