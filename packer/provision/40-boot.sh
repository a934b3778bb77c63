#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lets the disk boot by itself: a menu without a menu, with the kernel and arguments of direct boot, for BIOS and
# UEFI alike. UEFI's GRUB is on the disk already (base/uefi.sh); a BIOS's is put where this disk's first sector looks.
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
# all that the menu needs goes into GRUB itself: it loads nothing, so that nothing else is kept
modules="part_gpt ext2 search search_label configfile normal linux echo test"
grub-install --target=i386-pc --no-floppy --locales= --themes= --fonts= --modules="$modules" \
    --install-modules="$modules" /dev/vda 2>&1 | grep -v '^Install' || true
test -s /boot/grub/i386-pc/core.img
