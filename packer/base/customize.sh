#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mmdebstrap's last hook: removes from the root file system ($1) what must not be in it, and what varies.
set -eu
root=$1

# the build's mirror is private, and not reachable from an appliance
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
rm -f "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -f "$root"/etc/hostname "$root"/etc/resolv.conf

# secrets that packages generated for this machine, of which there will be many copies
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root"/etc/machine-id
rm -f "$root"/var/lib/dbus/machine-id "$root"/var/lib/systemd/random-seed

# logs and caches contain times
find "$root"/var/log -type f -delete
rm -rf "$root"/var/cache/ldconfig "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old

# Python loads compiled files without checking the source's time or content; forced, because the compiler itself
# writes checked files of the modules that it imports
python=$(basename "$(readlink "$root/usr/bin/python3")")
find "$root/usr/lib/$python" -name '__pycache__' -prune -exec rm -rf {} +
chroot "$root" "/usr/bin/$python" -I -m compileall -q -f -j 0 --invalidation-mode unchecked-hash "/usr/lib/$python"
