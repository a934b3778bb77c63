#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes one appliance's root file system as a tar: Debian packages and nothing else.
# usage: rootfs.sh SUITE ARCHITECTURE PACKAGES(comma separated) OUTPUT   (apt's source lines on standard input)
# The lines name a repository of the locked packages and no other (repository.py), so that equal locks give equal
# bytes: SOURCE_DATE_EPOCH must be set.
set -euo pipefail

suite=$1 architecture=$2 packages=$3 output=$4
here=$(cd "$(dirname "$0")" && pwd)
: "${SOURCE_DATE_EPOCH:?must be set}"

options=(
    --mode=root --variant=minbase --format=tar
    --architectures="$architecture" --include="$packages"
    # manuals and translations are half of a small system; licences stay
    --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/info/*'
    --dpkgopt='path-exclude=/usr/share/locale/*'
    --dpkgopt='path-exclude=/usr/share/doc/*'
    --dpkgopt='path-include=/usr/share/doc/*/copyright'
    --dpkgopt='path-exclude=/usr/share/lintian/*'
    --dpkgopt='path-exclude=/usr/share/bash-completion/*'
    --dpkgopt='path-exclude=/usr/share/grub/*'
    --dpkgopt='path-exclude=/usr/lib/grub/*/monolithic/*'
    # our own initial file system is made afterwards; Debian's would cost half a minute and be thrown away
    --essential-hook="$here/before-packages.sh"
    --dpkgopt='force-confold'
    --customize-hook="$here/customize.sh"
)

# the kernel's own hook looks at this; the rest of the tools look at what before-packages.sh leaves
export INITRD=No
exec mmdebstrap "${options[@]}" "$suite" "$output" -
