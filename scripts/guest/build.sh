#!/usr/bin/env bash
# Builds the guest of every microVM driver into out/lib/hpcc/guest: Debian's cloud kernel, and an initramfs of the agent and
# the kernel modules that it loads. kernel.lock names the package; --update pins the newest one, --locked takes no other than the
# pinned one. It is downloaded, not installed, and kept in .cache.
set -euo pipefail
cd "$(dirname "$0")/../.."
kept=.cache/guest
stamps="node_modules/.bin/node scripts/build-stamps.ts"
node_modules/.bin/node scripts/guest/fetch-kernel.ts scripts/guest/kernel.lock "$kept" "$@"
sources=$($stamps digest guest)
node_modules/.bin/node scripts/guest/pack.ts "$kept" out/lib/hpcc/agent out/lib/hpcc/guest
$stamps write guest "$sources"
