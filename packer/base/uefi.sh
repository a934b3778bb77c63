#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fills the UEFI partition with GRUB in one file, at the path where firmware looks by default.
# usage: uefi.sh ROOT DISK OFFSET_BYTES SECTORS     (the appliance's own GRUB; no mount)
set -euo pipefail

root=$1 disk=$2 offset=$3 sectors=$4
files=$(mktemp -d)
trap 'rm -rf "$files" "$root/tmp/uefi"' EXIT

# the menu is in the root file system, as for a BIOS; an unattended VM does not need GRUB's shell
mkdir "$root/tmp/uefi"
cat > "$root/tmp/uefi/early.cfg" <<'MENU'
search --no-floppy --label --set=root root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
MENU
for format in x86_64-efi:BOOTX64.EFI arm64-efi:BOOTAA64.EFI; do
    [ -d "$root/usr/lib/grub/${format%:*}" ] || continue
    mkdir -p "$files/EFI/BOOT"
    chroot "$root" grub-mkimage --format="${format%:*}" --prefix=/boot/grub --config=/tmp/uefi/early.cfg \
        --output=/tmp/uefi/image \
        part_gpt ext2 search search_label configfile normal linux echo test
    cp "$root/tmp/uefi/image" "$files/EFI/BOOT/${format#*:}"
done
[ -d "$files/EFI" ] || { echo "error: GRUB for UEFI is missing in the appliance" >&2; exit 1; }

find "$files" -exec touch -d "@${SOURCE_DATE_EPOCH:?must be set}" {} +
mformat -i "$disk@@$offset" -T "$sectors" -h 64 -s 32 -c 1 -N 5c5d0a5e -v UEFI ::
mcopy -i "$disk@@$offset" -s -m "$files/EFI" ::
