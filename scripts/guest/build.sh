#!/usr/bin/env bash
# Builds the guest of every microVM driver into out/lib/hpcc/guest: Debian's cloud kernel, and an initramfs of the agent and
# the kernel modules that it loads. The kernel package is downloaded, not installed, and kept in .cache; remove
# .cache/guest to take a newer one.
set -euo pipefail
cd "$(dirname "$0")/../.."
kept=.cache/guest

if [[ ! -e $kept/package ]]; then
  [[ -n $(apt-cache show linux-image-cloud-amd64 2>/dev/null) || $(id -u) != 0 ]] || apt-get -qq update
  # The name's package depends on the newest kernel's, which carries the files.
  package=$(apt-cache depends --important linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1)
  [[ -n $package ]] || { echo "guest: apt knows no linux-image-cloud-amd64; run apt-get update" >&2; exit 1; }
  echo "guest: downloading $package"
  rm -rf "$kept.new" && mkdir -p "$kept.new"
  (cd "$kept.new" && apt-get -qq -o APT::Sandbox::User=root download "$package")
  dpkg-deb -x "$kept.new/$package"_*.deb "$kept.new/package"
  dpkg-deb -f "$kept.new/$package"_*.deb Package Version >"$kept.new/control"
  release=${package#linux-image-}
  depmod=$(command -v depmod || echo /usr/sbin/depmod)
  base=$kept.new/package
  [[ -d $base/lib/modules ]] || base=$base/usr
  "$depmod" -b "$base" "$release"
  rm -f "$kept.new"/*.deb
  rm -rf "$kept" && mv "$kept.new" "$kept"
fi

node_modules/.bin/node scripts/guest/pack.ts "$kept" out/lib/hpcc/agent out/lib/hpcc/guest
