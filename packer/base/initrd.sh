#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the initial file system: the appliance's busybox, our init, and a few kernel modules.
# usage: initrd.sh ROOT MODULE_LIST OUTPUT
# Debian's takes six seconds of an emulated boot (udev, dozens of scripts), this one half a second.
set -euo pipefail

root=$1 list=$2 output=$3
here=$(cd "$(dirname "$0")" && pwd)
version=$(basename "$(echo "$root"/usr/lib/modules/*)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{bin,dev,proc,root,state,modules,fallback}
cp "$root/usr/bin/busybox" "$work/bin/busybox"
install -m 755 "$here/init" "$work/init"

number=10
# add DIRECTORY MODULE: adds the module and its dependencies, uncompressed, numbered in the order of loading
add() {
    local path name
    while read -r kind path _; do
        [ "$kind" = insmod ] || continue
        name=$(basename "${path%%.ko*}").ko
        [ -z "$(find "$work/modules" "$work/fallback" -name "*-$name")" ] || continue
        case $path in
            *.xz) xz -dc "$root$path" > "$work/$1/$number-$name" ;;
            *.zst) zstd -qdc "$root$path" > "$work/$1/$number-$name" ;;
            *) cp "$root$path" "$work/$1/$number-$name" ;;
        esac
        number=$((number + 1))
    done < <(chroot "$root" modprobe --set-version "$version" --show-depends "$2")
}
while read -r name fallback; do
    case $name in
        '' | '#'*) ;;
        -) add fallback "$fallback" ;;
        *) add modules "$name" ;;
    esac
done < "$list"

find "$work" -exec touch -h -d "@${SOURCE_DATE_EPOCH:?must be set}" {} +
(cd "$work" && find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=0:0 --reproducible --quiet) \
    | zstd -q -19 > "$output"
