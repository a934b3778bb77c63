#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the disk bootable by itself, with kernel and arguments of direct boot and without a visible menu, for BIOS
# and UEFI. GRUB for UEFI is already on the disk (base/uefi.sh); this step installs GRUB for BIOS.
set -eu
mkdir -p /boot/grub
cat > /boot/grub/grub.cfg <<MENU
set timeout=0
search --no-floppy --label --set=root root
linux /boot/vmlinuz $(cat "$PAYLOAD/append")
initrd /boot/initrd.img
boot
MENU
[ -d /usr/lib/grub/i386-pc ] || exit 0
# GRUB contains every module that the menu needs, so that no other file is kept
modules="part_gpt ext2 search search_label configfile normal linux echo test"
grub-install --target=i386-pc --no-floppy --locales= --themes= --fonts= --modules="$modules" \
    --install-modules="$modules" /dev/vda 2>&1 | grep -v '^Install' || true
test -s /boot/grub/i386-pc/core.img
