#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a root file system's tar to a disk that Packer boots, with its kernel and initial file system beside it.
# usage: disk.sh TAR LISTS_DIRECTORY DISK_BYTES OUTPUT_PREFIX     (no loop device, no mount)
set -euo pipefail

tar=$1 lists=$2 disk_bytes=$3 prefix=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "$(dirname "$prefix")/root.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
tar -C "$work" -xpf "$tar" --numeric-owner --xattrs --xattrs-include='*'

# modules that every start loads are kept as the kernel wants them
version=$(basename "$(echo "$work"/usr/lib/modules/*)")
while read -r module; do
    case $module in '' | '#'*) continue ;; esac
    # one that this appliance's kernel has built in, or not at all, needs nothing
    chroot "$work" modprobe --set-version "$version" --show-depends "$module" 2>/dev/null || true
done < "$lists/ready-modules" | sed -n "s|^insmod \(/.*\.ko\.xz\).*|$work\1|p" | sort -u | xargs -r xz -d
chroot "$work" depmod "$version"

"$here/initrd.sh" "$work" "$lists/initrd-modules" "$prefix.initrd"
cp "$prefix.initrd" "$work/boot/initrd.img-$version"
ln -sf "vmlinuz-$version" "$work/boot/vmlinuz"
ln -sf "initrd.img-$version" "$work/boot/initrd.img"
rm -f "$work/vmlinuz" "$work/initrd.img" "$work/vmlinuz.old" "$work/initrd.img.old"
cp "$work/boot/vmlinuz-$version" "$prefix.vmlinuz"
cp "$work/var/lib/dpkg/status" "$prefix.dpkg-status"

rm -f "$prefix.raw"
truncate -s "$disk_bytes" "$prefix.raw"
echo '2048,,L,*' | sfdisk -q "$prefix.raw"
# GRUB does not read the newest features; an appliance's few files need few inodes and no reserve for root
mke2fs -q -F -t ext4 -L root -m 0 -N 65536 -O '^metadata_csum_seed,^orphan_file' -J size=8 \
    -E offset=$((2048 * 512)) -d "$work" "$prefix.raw" $(((disk_bytes - 2048 * 512) / 1024))k
