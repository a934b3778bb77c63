#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes out all that was made by this one boot, so that every machine of the image begins its own life.
set -eu
# it would write its seed when this boot ends, and every machine would begin with the same
systemctl --quiet stop systemd-random-seed.service
rm -rf /etc/ssh/ssh_host_* /root/.ssh /root/.bash_history /root/.cache
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
# what each start decides anew is in memory (guest/paths.py, this_start); these are the ways to it
start=/run/systemvm-preinit
for name in hostname hosts resolv.conf; do
    ln -sfn "$start/$name" "/etc/$name"
done
for name in ssh_host_ed25519_key ssh_host_ed25519_key.pub; do
    ln -s "$start/$name" "/etc/ssh/$name"
done
ln -s "$start/root-ssh" /root/.ssh
# each start copies /var into memory: what only a package's installation asks for stays out of it
rm -rf /var/cache/debconf/* /var/lib/systemd/deb-systemd-* /var/lib/systemd/catalog /var/lib/ucf /var/lib/pam
rm -rf /var/cache/cloud/* /var/lib/apt/lists/* /var/log/* /var/tmp/* /var/lib/systemd/coredump
# made anew from inode numbers and times wherever it is missed
rm -rf /var/cache/ldconfig
# what a start would otherwise make anew; /var is copied as it is here
systemd-tmpfiles --create --prefix=/var --prefix=/mnt systemvm-tmpfiles.conf
# passwd- and its like keep what was before
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
sync
fstrim /
