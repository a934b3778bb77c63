#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mmdebstrap's hook before the packages are unpacked: keeps the kernel package from making Debian's initrd.
set -eu
mkdir -p "$1/etc/initramfs-tools"
echo update_initramfs=no > "$1/etc/initramfs-tools/update-initramfs.conf"
