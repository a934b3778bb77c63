#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes one appliance's root file system as a tar that contains only Debian packages.
# usage: rootfs.sh SUITE ARCHITECTURE PACKAGES(comma separated) OUTPUT   (apt's source lines on standard input)
# The lines name only a repository of the locked packages (repository.py), so that equal locks give equal bytes.
# SOURCE_DATE_EPOCH must be set.
set -euo pipefail

suite=$1 architecture=$2 packages=$3 output=$4
here=$(cd "$(dirname "$0")" && pwd)
: "${SOURCE_DATE_EPOCH:?must be set}"

options=(
    --mode=root --variant=minbase --format=tar
    --architectures="$architecture" --include="$packages"
    # manuals and translations are half of a small system; licences are kept
    --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/info/*'
    --dpkgopt='path-exclude=/usr/share/locale/*'
    --dpkgopt='path-exclude=/usr/share/doc/*'
    --dpkgopt='path-include=/usr/share/doc/*/copyright'
    --dpkgopt='path-exclude=/usr/share/lintian/*'
    --dpkgopt='path-exclude=/usr/share/bash-completion/*'
    --dpkgopt='path-exclude=/usr/share/grub/*'
    --dpkgopt='path-exclude=/usr/lib/grub/*/monolithic/*'
    # initrd.sh makes the initial file system later; Debian's would cost half a minute
    --essential-hook="$here/before-packages.sh"
    --dpkgopt='force-confold'
    --customize-hook="$here/customize.sh"
)

# read by the kernel's hook; the other tools read the file of before-packages.sh
export INITRD=No
exec mmdebstrap "${options[@]}" "$suite" "$output" -
