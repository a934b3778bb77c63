#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a disk that Packer boots, with kernel and initial file system, from a root file system's tar.
# usage: disk.sh TAR LISTS_DIRECTORY DISK_BYTES OUTPUT_PREFIX     (no loop device, no mount)
set -euo pipefail

tar=$1 lists=$2 disk_bytes=$3 prefix=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "$(dirname "$prefix")/root.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
tar -C "$work" -xpf "$tar" --numeric-owner --xattrs --xattrs-include='*'

# modules that every boot loads are stored uncompressed
version=$(basename "$(echo "$work"/usr/lib/modules/*)")
while read -r module; do
    case $module in '' | '#'*) continue ;; esac
    # nothing to do for a module that is built in or absent in this kernel
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

# Three partitions: for GRUB with BIOS, for GRUB with UEFI, and last the root file system, so that a disk can grow.
# Constant identifiers give equal bytes for equal inputs; the root file system is found by its label.
uefi_sector=4096 uefi_sectors=16384 root_sector=20480
end_sector=$((disk_bytes / 512 - 2048)) # followed by the table's backup
rm -f "$prefix.raw"
truncate -s "$disk_bytes" "$prefix.raw"
sfdisk -q "$prefix.raw" <<TABLE
label: gpt
label-id: 5C5D0A5E-0000-4000-8000-000000000000
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=5C5D0A5E-0000-4000-8000-000000000001, name=bios
start=$uefi_sector, size=$uefi_sectors, type=U, uuid=5C5D0A5E-0000-4000-8000-000000000002, name=uefi
start=$root_sector, size=$((end_sector - root_sector)), type=L, uuid=5C5D0A5E-0000-4000-8000-000000000003, name=root
TABLE
"$here/uefi.sh" "$work" "$prefix.raw" $((uefi_sector * 512)) "$uefi_sectors"
# GRUB does not support the newest features; an appliance has few files and needs no space reserved for root
mke2fs -q -F -t ext4 -L root -m 0 -N 65536 -O '^metadata_csum_seed,^orphan_file' -J size=8 \
    -E offset=$((root_sector * 512)) -d "$work" "$prefix.raw" $(((end_sector - root_sector) / 2))k
