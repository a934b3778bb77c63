#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building, running and testing need; does nothing when all are there.
set -euo pipefail

# Looking things up does not need root; installing does. Everything that is wrong is said at once.
packages=(
    # the host of the machines
    qemu-system-x86 qemu-utils iproute2 nftables systemd openssh-client
    # building the images
    mmdebstrap debian-archive-keyring packer e2fsprogs fdisk zstd grub-pc-bin grub2-common grub-common cpio xz-utils
    # the other ways to boot them: UEFI, libvirt, another architecture
    ovmf libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
    qemu-system-arm qemu-efi-aarch64 qemu-user-static arch-test
    # the cloud's other parts: secondary storage, a web server to download from, things to download
    nfs-ganesha nfs-ganesha-vfs nginx-light dnsmasq-base ipxe busybox-static xorriso mtools
    # Python, the browser's side of a console, and the tests
    python3 python3-venv npm chromium libnss3-tools fonts-dejavu-core curl openssl procps netbase
    ca-certificates gpg
    # known vulnerabilities of what the images hold
    debsecan
)

missing=()
for package in "${packages[@]}"; do
    # a node.js from elsewhere brings its own npm, and Debian's cannot be installed beside it
    if [ "$package" = npm ] && command -v npm >/dev/null; then continue; fi
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        missing+=("$package")
    fi
done
# The daemon, QEMU and the network helper each are a user of their own, on a host as in `make run`.
users=systemd/host/systemvm-host.conf
make_users() {
    local name names
    mapfile -t names < <(awk '$1 == "u" { print $2 }' "$users")
    for name in "${names[@]}"; do
        if ! getent passwd "$name" >/dev/null; then
            if [ "$(id -u)" != 0 ]; then
                echo "error: the user $name is missing" >&2
                echo "hint:  run this as root, or \`systemd-sysusers $users\` first" >&2
                exit 1
            fi
            systemd-sysusers "$PWD/$users" >/dev/null
            return
        fi
    done
}

if [ ${#missing[@]} -eq 0 ]; then make_users; exit 0; fi

if [ "$(id -u)" != 0 ]; then
    echo "error: these Debian packages are missing: ${missing[*]}" >&2
    echo "hint:  run this as root, or install them first" >&2
    exit 1
fi
echo "packages: installing ${missing[*]} (a few minutes)"
mkdir -p build
log=build/apt.log
# Debian starts what it installs where an init system runs; nginx and ganesha here are started by the cloud alone.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        > "$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "error: apt-get could not install the packages; the whole log is $log" >&2
    exit 1
fi
make_users
