#!/bin/sh
# Installs open-dispatch and sprite-reporter from a release into ~/.local/bin.
#
#   OPEN_DISPATCH_VERSION      the release, such as 0.1.0; the newest by default
#   OPEN_DISPATCH_INSTALL_DIR  where to; ~/.local/bin by default
#   OPEN_DISPATCH_BASE_URL     where the archives and SHA256SUMS are; the release's page by default
#
# The two programs belong beside each other: the server starts the reporter of its own version.
# Nothing is installed before the checksum was verified.

set -eu

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

target() {
  system=$(uname -s)
  machine=$(uname -m)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there is no build for $machine; build it with: cargo install --locked --path ." ;;
  esac
  case $system in
    Linux) printf '%s-unknown-linux-musl' "$machine" ;;
    Darwin) printf '%s-apple-darwin' "$machine" ;;
    *) fail "there is no build for $system; on Windows, use WSL2" ;;
  esac
}

# fetch URL FILE
fetch() {
  if has curl; then
    curl --fail --silent --show-error --location --output "$2" "$1"
  elif has wget; then
    wget --quiet --output-document="$2" "$1"
  else
    fail "needs curl or wget"
  fi || fail "cannot download $1"
}

checksum() {
  if has sha256sum; then
    sha256sum "$1"
  elif has shasum; then
    shasum -a 256 "$1"
  else
    fail "needs sha256sum or shasum"
  fi | cut -d ' ' -f 1
}

main() {
  home=https://github.com/open-dispatch/open-dispatch/releases
  if [ -n "${OPEN_DISPATCH_VERSION:-}" ]; then
    page=$home/download/v${OPEN_DISPATCH_VERSION#v}
  else
    page=$home/latest/download
  fi
  base=${OPEN_DISPATCH_BASE_URL:-$page}
  into=${OPEN_DISPATCH_INSTALL_DIR:-$HOME/.local/bin}
  name=open-dispatch-$(target)

  work=$(mktemp -d) || fail "cannot make a temporary directory"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  fetch "$base/$name.tar.gz" "$work/$name.tar.gz"
  fetch "$base/SHA256SUMS" "$work/SHA256SUMS"
  expected=$(awk -v name="$name.tar.gz" '$2 == name || $2 == "*" name { print $1 }' "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "$base/SHA256SUMS says nothing of $name.tar.gz"
  found=$(checksum "$work/$name.tar.gz")
  [ "$found" = "$expected" ] || fail "the checksum of $name.tar.gz is $found and should be $expected; nothing was installed"

  tar -xzf "$work/$name.tar.gz" -C "$work" || fail "cannot unpack $name.tar.gz"
  for program in sprite-reporter open-dispatch; do
    [ -f "$work/$name/$program" ] || fail "$name.tar.gz has no $program in it; nothing was installed"
  done
  mkdir -p "$into" || fail "cannot make $into"
  # A running server keeps its old file: each new one is renamed over it, the server's last.
  for program in sprite-reporter open-dispatch; do
    cp "$work/$name/$program" "$into/.$program.new" || fail "cannot write to $into"
    chmod 755 "$into/.$program.new"
    mv -f "$into/.$program.new" "$into/$program"
  done

  printf 'installed open-dispatch and sprite-reporter into %s\n' "$into"
  case ":$PATH:" in
    *":$into:"*) ;;
    *) printf 'add it to your PATH: export PATH="%s:$PATH"\n' "$into" ;;
  esac
}

# All of the script is read before any of it runs.
main "$@"
