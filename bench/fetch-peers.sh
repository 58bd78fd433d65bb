#!/usr/bin/env bash
# fetch-peers.sh FOLDER: puts the newest ccache and sccache (packages of Debian's newest suite, with the libraries that they need, beside
# the system and not into it) and zccache (its Python wheel) into FOLDER/bin. A second run finds them there.
set -euo pipefail
folder=$(realpath -m "$1")
[[ -x $folder/bin/zccache ]] && exit 0
echo "bench: fetching ccache, sccache and zccache to $folder"
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/wheel" "$work/root" "$work/bin"
sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
mirror=$(sed -nE 's/^(URIs: *|deb[[:space:]]+(\[[^]]*\][[:space:]]+)?)([^[:space:]]+).*/\3/p' <<<"$sources" | grep -v security | head -n 1)
keyring=$(sed -nE 's/^Signed-By: *(.+)/\1/p' <<<"$sources" | head -n 1)
echo "deb [signed-by=${keyring:-/usr/share/keyrings/debian-archive-keyring.gpg}] $mirror sid main" >"$work/sources/sid.list"
: >"$work/status"
apt=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists"
  -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=root")
apt-get "${apt[@]}" update
apt-get "${apt[@]}" install --download-only --no-install-recommends -y ccache sccache >/dev/null
for package in "$work"/cache/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
command -v patchelf >/dev/null || apt-get -qq install -y --no-install-recommends patchelf >/dev/null
mkdir -p "$folder/bin"
rm -rf "$folder/root"
mv "$work/root" "$folder/root"
loader=$(find "$folder/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
for program in ccache sccache; do
  cp "$folder/root/usr/bin/$program" "$folder/bin/$program"
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$(dirname "$loader"):$folder/root/usr/lib/x86_64-linux-gnu" "$folder/bin/$program"
  "$folder/bin/$program" --version | head -n 1
done
python3 -m pip download -q --no-deps -d "$work/wheel" zccache
python3 -m zipfile -e "$work"/wheel/*.whl "$work/wheel/out"
find "$work/wheel/out" -path '*scripts/*' -type f -exec install -m 755 -t "$folder/bin" {} +
"$folder/bin/zccache" --version
