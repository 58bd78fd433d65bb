#!/usr/bin/env bash
# Builds launcher, agent, channel and keeper and lays them out as they are installed: out/bin/hpcc,
# out/lib/hpcc/{node,agent,channel,keeper}.
set -euo pipefail
cd "$(dirname "$0")/.."
stamps="node_modules/.bin/node scripts/build-stamps.ts"
sources=$($stamps digest native)
(cd native && CARGO_TERM_PROGRESS_WHEN=never cargo build --release --locked --quiet)
release=native/target/x86_64-unknown-linux-gnu/release
mkdir -p out/bin out/lib/hpcc
install_if_changed() { cmp -s "$1" "$2" || { cp "$1" "$2.new" && mv "$2.new" "$2"; }; }
# A launcher or agent that looks for a dynamic loader runs nowhere but here.
for program in "$release/hpcc" "$release/hpcc-agent"; do
  if readelf -lW "$program" | grep -q INTERP; then echo "$program is not static" >&2; exit 1; fi
done
install_if_changed "$release/hpcc" out/bin/hpcc
install_if_changed "$release/hpcc-agent" out/lib/hpcc/agent
install_if_changed "$release/hpcc-keeper" out/lib/hpcc/keeper
install_if_changed "$release/hpcc-channel" out/lib/hpcc/channel
install_if_changed "$(readlink -f node_modules/node/bin/node)" out/lib/hpcc/node
$stamps write native "$sources"
