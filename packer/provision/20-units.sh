#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Users, and which units run: what the appliance names is enabled, what it never needs is masked.
set -eu
systemd-sysusers
while read -r unit; do
    case $unit in '' | '#'*) continue ;; esac
    ln -sf /dev/null "/etc/systemd/system/$unit"
    # nobody asks for it any more: it would be looked up at every start only to be found masked
    rm -f /usr/lib/systemd/system/*.wants/"$unit" /etc/systemd/system/*.wants/"$unit"
done < "$PAYLOAD/masked-units"
# udev applies the rules that are listed and no other to what it finds
mkdir -p /etc/udev/rules.d
for rules in /usr/lib/udev/rules.d/*.rules; do
    grep -qx "${rules##*/}" "$PAYLOAD/udev-rules" || ln -sf /dev/null "/etc/udev/rules.d/${rules##*/}"
done
# units are listed, none are to be made up at each start from files that are not here
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "/etc/systemd/system-generators/${generator##*/}"
done
# D-Bus waits for its first question
rm -f /usr/lib/systemd/system/multi-user.target.wants/dbus.service

# what qemu-guest-agent calls when the host sets the clock
ln -sf ../bin/busybox /usr/sbin/hwclock

# shellcheck disable=SC2046 # one unit a word is meant
systemctl --no-reload --quiet enable $(cat "$PAYLOAD/enable")
systemctl --no-reload --quiet set-default multi-user.target

install -d -m 755 /var/cache/cloud /mnt/SecStorage
