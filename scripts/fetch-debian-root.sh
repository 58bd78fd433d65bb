#!/usr/bin/env bash
# fetch-debian-root.sh NAME FOLDER: makes FOLDER/root of the packages that scripts/debian-roots.txt lists under that name with what they
# depend on, from the same mirror as the machine's own, unpacked. No script of a package runs and no package database is written, so it
# is as bare as an image can be: no ld.so.cache, no users, no alternatives. Says what it fetches; a second run finds it there.
set -euo pipefail
lists=$(dirname "$(realpath "$0")")/debian-roots.txt
read -r _ suite list < <(grep "^$1 " "$lists") || { echo "fetch-debian-root: $lists has no $1" >&2; exit 1; }
folder=$(realpath -m "$2")
read -r -a list <<<"$list"
wanted="$suite ${list[*]}"
[[ -f $folder/made-of && $(<"$folder/made-of") == "$wanted" ]] && exit 0

# Not opened by a compiler that makes objects: package tools, run-time parts of sanitizers, libraries for other programs.
skipped='^(adduser|debconf|dpkg|tar|perl-base|install-info|libc-gconv-modules-extra|lib(32|x32)?(asan|tsan|ubsan|lsan|hwasan)[0-9]+|libclang1-.*|libgprofng0|libobjc.*|lib32.*|libc6-i386|libpython.*|python3.*)$'
mirror=$(sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+\/debian)\/?$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
[[ -n $mirror ]] || mirror=$(sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+\/debian)\/?[[:space:]].*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | head -n 1)
[[ -n $mirror ]] || { echo "fetch-debian-root: this machine's apt names no mirror of Debian" >&2; exit 1; }

rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/archives/partial" "$work/root"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources/suite.list"
: >"$work/status"
apt=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists"
  -o "Dir::State::status=$work/status" -o "Dir::Cache=$work" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
  -o "Acquire::Languages=none" -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false" -o "APT::Sandbox::User=root"
  -o "APT::Install-Recommends=false" -o "Acquire::Retries=3")
apt-get "${apt[@]}" update
# The highest version of what a release has in several.
names=()
for name in "${list[@]}"; do
  [[ $name == newest:* ]] && name=$(apt-cache "${apt[@]}" pkgnames "${name#newest:}" | grep -xE "$(sed 's/+/\\+/g' <<<"${name#newest:}")[0-9]+" | sort -V | tail -n 1)
  names+=("$name")
done
(
  cd "$work"
  # Each line: 'URI' file size hash.
  apt-get "${apt[@]}" -y install --print-uris base-files "${names[@]}" | sed -nE "s/^'([^']+)' ([^_]+)_[^ ]+ .*/\2/p" | sort -u |
    grep -vE "$skipped" >packages
  mapfile -t packages <packages
  echo "fetch-debian-root: $suite: ${packages[*]}"
  cd archives
  apt-get "${apt[@]}" download "${packages[@]}"
  for package in *.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C ../root --no-same-owner --exclude=./usr/share/{doc,man,info,locale,lintian}/*; done
)
rm -rf "$work/lists" "$work/archives" "$work/sources" "$work/status"
echo "$wanted" >"$work/made-of"
chmod 755 "$work"
mv "$work" "$folder"
