#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the daemon, its helpers, the images and the units on this host, or below DESTDIR; `make install` runs
# it. A second run replaces what an earlier release installed. Configuration, database and VMs are not touched.
#
# usage: [DESTDIR=DIR] [IMAGES=build/images] [PYTHON=.venv/bin/python] systemd/host/install.sh
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."

root=${DESTDIR:-}
images=${IMAGES:-build/images}
# The environment's pip; the programs run by the host's own Python, which may be of another version.
python=${PYTHON:-.venv/bin/python}
host_python=/usr/bin/python3
lib=/usr/lib/systemvm

fail() {
    printf 'error: %s\nhint:  %s\n' "$1" "$2" >&2
    exit 1
}
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "installing needs root" "run this as root, or set DESTDIR to a directory"
for image in ssvm cpvm; do
    [ -e "$images/$image.manifest.json" ] || fail "there is no image of the $image in $images" "run make images first"
done
[ -x "$host_python" ] || fail "there is no $host_python" "install it: apt-get install python3"

new=$root$lib.new
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
mkdir -p "$new/agents"
echo "install: programs and their packages in $root$lib"
tar -C agents -c --exclude=__pycache__ --exclude='*.egg-info' systemvm | tar -C "$new/agents" -x --no-same-owner
# Programs read their version, and the packages that system VMs need, from the metadata of the distribution.
cp pyproject.toml LICENSE "$new"
"$python" -c 'import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1])
build_meta.prepare_metadata_for_build_wheel("agents")' "$new" >/dev/null
rm -r "$new/pyproject.toml" "$new/LICENSE" "$new"/agents/*.egg-info
version=$("$host_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
    --only-binary :all: --python-version "$version" --target "$new/packages" -r agents/locks/daemon.txt
# Users of these programs cannot write there, so it is compiled now.
"$host_python" -m compileall -q -s "$new" -p "$lib" "$new" >/dev/null || fail "$host_python cannot compile the programs" \
    "use Python 3.11 or later"
cp -r --no-preserve=ownership "$images/" "$new/images"
if [ -d build/xterm ]; then cp -rL --no-preserve=ownership build/xterm "$new/xterm"; fi

# Sources and images can be of a stricter umask; the programs of other users read them.
chmod -R a+rX "$new"

# A program that starts between these two lines does not find its code, and systemd starts it again.
if [ -e "$root$lib" ]; then mv "$root$lib" "$root$lib.old"; fi
mv "$new" "$root$lib"
rm -rf "$root$lib.old"

mkdir -p "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d"
while read -r name module; do
    cat > "$root/usr/bin/$name" <<END
#!$host_python
import sys
sys.path[:0] = ["$lib/agents", "$lib/packages"]
from $module.__main__ import main
sys.exit(main())
END
    chmod 755 "$root/usr/bin/$name"
done <<'END'
systemvm systemvm.cli
systemvm-managementd systemvm.management
systemvm-nethelper systemvm.nethelper
systemvm-mounthelper systemvm.mounthelper
systemvm-launcher systemvm.launcher
systemvm-guestnet systemvm.guestnet
END
install -m 644 systemd/host/*.service systemd/host/*.socket "$root/usr/lib/systemd/system"
install -m 644 systemd/host/systemvm-host.conf "$root/usr/lib/sysusers.d"
systemd-sysusers ${root:+--root="$root"} >/dev/null

if [ -n "$root" ]; then
    echo "install: done below $root"
    exit 0
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
systemvm-managementd --prepare
systemvm --version
# They stay resident with the code of the release before, which does not know what this daemon asks.
if [ -d /run/systemd/system ]; then
    systemctl try-restart systemvm-nethelper.service systemvm-mounthelper.service systemvm-launcher.service \
        systemvm-guestnet.service
fi
if [ -d /run/systemd/system ] && systemctl is-active --quiet systemvm-managementd.service; then
    echo "install: restart the daemon to run this release; virtual machines run on: systemctl restart systemvm-managementd"
else
    echo "install: done; go on at step 3 of docs/TUTORIAL.md: describe the host in /etc/systemvm/host.yaml"
fi
