#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Removes what install.sh has installed. /etc/systemvm, /var/lib/systemvm and the users stay.
set -euo pipefail
cd "$(dirname "$0")"

root=${DESTDIR:-}
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
    printf 'error: removing needs root\nhint:  run this as root, or set DESTDIR to a directory\n' >&2
    exit 1
fi
units=(*.service *.socket)
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    if pgrep -u systemvm-qemu >/dev/null; then
        printf 'error: virtual machines run on this host\nhint:  stop them first; systemvm vm list shows them\n' >&2
        exit 1
    fi
    systemctl disable --quiet --now "${units[@]}" 2>/dev/null || true
fi
rm -f "${units[@]/#/$root/usr/lib/systemd/system/}" "$root/usr/lib/sysusers.d/systemvm-host.conf"
for name in systemvm systemvm-{managementd,nethelper,mounthelper,launcher,guestnet}; do rm -f "$root/usr/bin/$name"; done
rm -rf "$root/usr/lib/systemvm"
if [ -z "$root" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "uninstall: done; /etc/systemvm, /var/lib/systemvm and the users systemvm* are still there"
