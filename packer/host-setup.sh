#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages for building, running and testing, and those in its arguments; does nothing when
# all are installed.
set -euo pipefail

# Only the installation needs root. Everything that is missing is reported at once.
packages=(
    # the host of the VMs
    qemu-system-x86 qemu-utils iproute2 nftables systemd openssh-client
    # words on their screens
    tesseract-ocr
    # building the images
    mmdebstrap debian-archive-keyring packer e2fsprogs fdisk zstd grub-pc-bin grub2-common grub-common cpio xz-utils
    # other ways to boot images: UEFI, libvirt, another architecture
    ovmf libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
    qemu-system-arm qemu-efi-aarch64 qemu-user-static arch-test
    # servers around the cloud: secondary storage, a web server, and media to download
    rpcbind nfs-ganesha nfs-ganesha-vfs nginx-light dnsmasq-base pebble ipxe busybox-static xorriso mtools
    # Python, the browser's side of a console, and the tests
    # (libatomic1 for Playwright's own Node.js, gpg-agent for the keys that tests make)
    python3 python3-venv npm chromium firefox-esr libatomic1 libnss3-tools fonts-dejavu-core curl openssl procps netbase
    ca-certificates gpg gpg-agent
    # a VNC viewer, and a display for it
    tigervnc-viewer xvfb
    # videos of recorded consoles
    ffmpeg
    # known vulnerabilities of the images
    debsecan
    "$@"
)

missing=()
for package in "${packages[@]}"; do
    # a node.js that is not Debian's includes npm, and Debian's npm cannot be installed in addition
    if [ "$package" = npm ] && command -v npm >/dev/null; then continue; fi
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        missing+=("$package")
    fi
done
# The daemon, QEMU and the network helper run as separate users, on a host as in `make run`.
users=systemd/host/systemvm-host.conf
make_users() {
    local name names
    mapfile -t names < <(awk '$1 == "u" { print $2 }' "$users")
    for name in "${names[@]}"; do
        if ! getent passwd "$name" >/dev/null; then
            if [ "$(id -u)" != 0 ]; then
                echo "error: user is missing: $name" >&2
                echo "hint:  run this as root, or run \`systemd-sysusers $users\` as root first" >&2
                exit 1
            fi
            systemd-sysusers "$PWD/$users" >/dev/null
            return
        fi
    done
}

if [ ${#missing[@]} -eq 0 ]; then make_users; exit 0; fi

if [ "$(id -u)" != 0 ]; then
    echo "error: Debian packages are missing: ${missing[*]}" >&2
    echo "hint:  run this as root, or install them first" >&2
    exit 1
fi
echo "packages: installing ${missing[*]} (a few minutes)"
mkdir -p build
log=build/apt.log
# Debian starts installed services where an init system runs; only the cloud must start nginx and ganesha.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        > "$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "error: apt-get cannot install the packages: see $log" >&2
    exit 1
fi
make_users
