#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints kvm or tcg: kvm only if a guest starts its first program with it within 15 seconds.
# On some hosts /dev/kvm can be opened and makes a VM, but every stock kernel hangs in it.
# usage: probe-accelerator.sh KERNEL INITRD
set -euo pipefail

kernel=$1 initrd=$2
if ! grep -qwE 'vmx|svm' /proc/cpuinfo || [ ! -w /dev/kvm ]; then
    echo tcg
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
marker=systemvm-probe-$$
# a second archive after the first adds a program to the initial file system. The kernel accepts an uncompressed
# archive only at an offset that is a multiple of four (init/initramfs.c, unpack_to_rootfs).
printf '#!/bin/busybox sh\necho %s\n/bin/busybox poweroff -f\n' "$marker" > "$work/probe"
chmod 755 "$work/probe"
cp "$initrd" "$work/initrd"
truncate -s %4 "$work/initrd"
(cd "$work" && echo probe | cpio --quiet -o -H newc) >> "$work/initrd"
timeout 15 qemu-system-x86_64 -accel kvm -cpu host -m 256 -machine q35 -nodefaults -display none -no-reboot \
    -serial "file:$work/serial" -kernel "$kernel" -initrd "$work/initrd" \
    -append 'console=ttyS0 quiet rdinit=/probe' < /dev/null > /dev/null 2>&1 || true
if grep -qs "$marker" "$work/serial"; then echo kvm; else echo tcg; fi
