#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Removes everything that this boot made, so that every VM of the image starts without it.
set -eu
# it would write its seed at shutdown, and every VM would start with the same one
systemctl --quiet stop systemd-random-seed.service
rm -rf /etc/ssh/ssh_host_* /root/.ssh /root/.bash_history /root/.cache
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
# preinit writes these files to memory at each boot (guest/paths.py, this_start); these are links to them
start=/run/systemvm-preinit
for name in hostname hosts resolv.conf; do
    ln -sfn "$start/$name" "/etc/$name"
done
for name in ssh_host_ed25519_key ssh_host_ed25519_key.pub; do
    ln -s "$start/$name" "/etc/ssh/$name"
done
ln -s "$start/root-ssh" /root/.ssh
# each boot copies /var into memory: files that only package installation needs are removed
rm -rf /var/cache/debconf/* /var/lib/systemd/deb-systemd-* /var/lib/systemd/catalog /var/lib/ucf /var/lib/pam
rm -rf /var/cache/cloud/* /var/lib/apt/lists/* /var/log/* /var/tmp/* /var/lib/systemd/coredump
# caches that programs make again from inode numbers and times
rm -rf /var/cache/ldconfig
# made here instead of at each boot; /var is copied as it is
systemd-tmpfiles --create --prefix=/var --prefix=/mnt systemvm-tmpfiles.conf
# backups such as passwd- contain the previous state
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
sync
fstrim /
