#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the users, enables the appliance's units, and masks those that it never needs.
set -eu
systemd-sysusers
while read -r unit; do
    case $unit in '' | '#'*) continue ;; esac
    ln -sf /dev/null "/etc/systemd/system/$unit"
    # without its links the unit is not looked up at every boot
    rm -f /usr/lib/systemd/system/*.wants/"$unit" /etc/systemd/system/*.wants/"$unit"
done < "$PAYLOAD/masked-units"
# udev applies only the listed rules
mkdir -p /etc/udev/rules.d
for rules in /usr/lib/udev/rules.d/*.rules; do
    grep -qx "${rules##*/}" "$PAYLOAD/udev-rules" || ln -sf /dev/null "/etc/udev/rules.d/${rules##*/}"
done
# no generator is needed: all units are listed
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "/etc/systemd/system-generators/${generator##*/}"
done
# D-Bus is started by its first query
rm -f /usr/lib/systemd/system/multi-user.target.wants/dbus.service

# called by qemu-guest-agent when the host sets the clock
ln -sf ../bin/busybox /usr/sbin/hwclock

# shellcheck disable=SC2046 # word splitting is intended
systemctl --no-reload --quiet enable $(cat "$PAYLOAD/enable")
systemctl --no-reload --quiet set-default multi-user.target

install -d -m 755 /var/cache/cloud /mnt/SecStorage
