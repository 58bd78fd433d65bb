#!/usr/bin/env bash
# Sets a Debian machine up for building, testing and the demo. Says what it installs; a second run finds everything there
# and takes seconds. Needs root only when Debian packages are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'setup: %s\n' "$*"; }

missing=()
want() {
  dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed || missing+=("$1")
}
while read -r package; do
  [[ -z $package || $package == \#* ]] || want "$package"
done <scripts/apt-packages.txt
# In Debian 12 it is part of QEMU's packages.
[[ $(. /etc/os-release && echo "${VERSION_ID:-}") == 12 ]] || want virtiofsd
# Rust and npm of any origin will do; Debian's are the last resort.
cargo --version >/dev/null 2>&1 || { want cargo-web && want rustc-web && want rustfmt-web; }
command -v npm >/dev/null || want npm
# A second implementation of notes and logs verifies the audit log in a test.
command -v go >/dev/null || want golang-go
if ((${#missing[@]} > 0)); then
  say "installing Debian packages: ${missing[*]}"
  if [[ $(id -u) != 0 ]]; then
    say "these need root; run: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  # Services must not start: tests run their own servers on loopback. Nor is there a database that starts with the machine.
  policy=/usr/sbin/policy-rc.d
  clusters=/etc/postgresql-common/createcluster.d
  no_cluster=$clusters/hpcc-setup.conf
  trap 'rm -f "$no_cluster" ${own_policy:+"$own_policy"}; rmdir "$clusters" 2>/dev/null || :' EXIT
  if [[ ! -e $policy ]]; then
    own_policy=$policy
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
  fi
  mkdir -p $clusters && echo 'create_main_cluster = off' >$no_cluster
  apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! cargo --version >/dev/null 2>&1; then
  say "there is no working cargo on PATH ($(command -v cargo || echo none)); remove or repair it, then run this again" >&2
  exit 1
fi

stamp=node_modules/.hpcc-lock
if ! cmp -s package-lock.json "$stamp"; then
  say "installing npm packages (pinned in package-lock.json, Node itself among them)"
  # Not `npm ci`: it refuses a lock file without the packages of platforms that a mirror leaves out. This takes what is locked
  # as well, and leaves the lock file as it is.
  npm install --no-save --no-update-notifier --no-fund --no-audit --loglevel=error
  cp package-lock.json "$stamp"
fi

# What only tests need is fetched and made beside the rest; what says nothing of a failure here is missed by its test, by name.
go_programs() {
  (cd test/golden/audit-go && go mod download)
  mkdir -p .cache
  say "building a registry of go-containerregistry and verifiers of attestations and cosignatures for tests"
  (cd test/support/go-registry && go build -o "$OLDPWD/.cache/go-registry" .) || say "the registry could not be built; its test will be skipped"
  (cd test/golden/attest-go && go build -o "$OLDPWD/.cache/attest-go" .) || say "a verifier of attestations could not be built; its test will be skipped"
  (cd test/golden/witness-go && go build -o "$OLDPWD/.cache/witness-go" .) || say "a verifier of cosignatures could not be built; its test will be skipped"
}
# Images that are not this machine's are made of these in tests; rpm and pacman are asked there, too.
debian_roots() {
  for root in bullseye cross packagers host; do
    [[ $(uname -m) != x86_64 ]] || scripts/fetch-debian-root.sh "$root" ".cache/roots/$root" || say "tests with the root $root will fail"
  done
}
go_programs &
go=$!
debian_roots &
roots=$!
built=0
make --no-print-directory tools build || built=$?
wait $go || { say "the tests' Go programs could not be had" >&2; exit 1; }
wait $roots
((built == 0)) || exit "$built"
say "ready: out/bin/hpcc"
