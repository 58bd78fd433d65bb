#!/usr/bin/env bash
# fetch-debian-source.sh PACKAGE FOLDER: downloads a Debian source package's original archive through apt, from the same
# mirror as the machine's binary packages, and unpacks it to FOLDER/PACKAGE. The second run finds it there.
set -euo pipefail
package=$1
folder=$2
[[ -d $folder/$package ]] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/archives" "$work/download" "$folder"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [[ -f $list ]] && sed -nE 's/^deb(-src)?[[:space:]]/deb-src /p' "$list" | sort -u >"$work/sources/$(basename "$list" .list)-src.list"
done
for list in /etc/apt/sources.list.d/*.sources; do
  [[ -f $list ]] && sed -E 's/^Types:.*/Types: deb-src/' "$list" >"$work/sources/$(basename "$list")"
done
apt=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists"
  -o "Dir::Cache=$work" -o "APT::Sandbox::User=root")
apt-get "${apt[@]}" update
# The newest version first: a mirror may list what it does not hold, as of the security archive.
fetched=
for version in $(apt-cache "${apt[@]:1}" showsrc --only-source "$package" | sed -n 's/^Version: //p' | sort -rVu); do
  (cd "$work/download" && apt-get "${apt[@]}" source --download-only --only-source "$package=$version" >/dev/null) && { fetched=yes; break; }
  rm -f "$work"/download/*
  echo "fetch-debian-source: version $version of $package cannot be had, trying an older one" >&2
done
[[ -n $fetched ]] || { echo "fetch-debian-source: no version of $package can be had" >&2; exit 1; }
archive=$(find "$work/download" -name '*.orig.tar.*' ! -name '*.asc' | head -n 1)
[[ -n $archive ]] || { echo "fetch-debian-source: $package has no original archive" >&2; exit 1; }
mkdir "$work/unpacked"
tar -xf "$archive" -C "$work/unpacked" --strip-components=1
mv "$work/unpacked" "$folder/$package"
