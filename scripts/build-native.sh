#!/usr/bin/env bash
# Builds launcher, agent and channel and lays them out as they are installed: out/bin/hpcc, out/lib/hpcc/{node,agent,channel}.
set -euo pipefail
cd "$(dirname "$0")/.."
(cd native && CARGO_TERM_PROGRESS_WHEN=never cargo build --release --locked --quiet)
release=native/target/x86_64-unknown-linux-gnu/release
mkdir -p out/bin out/lib/hpcc
install_if_changed() { cmp -s "$1" "$2" || { cp "$1" "$2.new" && mv "$2.new" "$2"; }; }
install_if_changed "$release/hpcc" out/bin/hpcc
install_if_changed "$release/hpcc-agent" out/lib/hpcc/agent
install_if_changed "$release/hpcc-channel" out/lib/hpcc/channel
install_if_changed "$(readlink -f node_modules/node/bin/node)" out/lib/hpcc/node
