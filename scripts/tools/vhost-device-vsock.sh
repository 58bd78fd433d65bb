#!/usr/bin/env bash
# Gets vhost-device-vsock, the back-end of a QEMU machine's vsock device, into out/lib/hpcc. Debian's bookworm has no package of
# it; its Rust crate has a lock file. Kept in .cache, so that `make clean` need not build it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.3.0
kept=.cache/tools
program=$kept/bin/vhost-device-vsock
installed=out/lib/hpcc/vhost-device-vsock

if [[ $("$program" --version 2>/dev/null) != "vhost-device-vsock $version" ]]; then
  echo "tools: building vhost-device-vsock $version from its crate (about two minutes)"
  # The folder keeps this repository's cargo configuration (a static target) away from a foreign crate.
  (cd / && CARGO_TERM_PROGRESS_WHEN=never cargo install --quiet --locked --jobs 2 --force \
    --root "$OLDPWD/$kept" --version "$version" vhost-device-vsock)
fi
mkdir -p "$(dirname "$installed")"
cmp -s "$program" "$installed" || { cp "$program" "$installed.new" && mv "$installed.new" "$installed"; }
