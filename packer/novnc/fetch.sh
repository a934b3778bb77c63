#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the stock noVNC that package-lock.json pins by hash into DEST: its ES modules and its licence, nothing else.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DEST" >&2
    exit 64
fi
mkdir -p "$1"
dest=$(CDPATH='' cd -- "$1" && pwd)
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$here/package.json" "$here/package-lock.json" "$work/"
(cd "$work" && npm ci --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error >/dev/null)

stock=$work/node_modules/@novnc/novnc
# The console's front serves plain files alone and would refuse to start on a link.
if [ -n "$(find "$stock/core" "$stock/vendor" ! -type f ! -type d)" ]; then
    echo "noVNC's package holds something that is neither file nor folder" >&2
    exit 1
fi
rm -rf "$dest/core" "$dest/vendor"
cp -R "$stock/core" "$stock/vendor" "$stock/LICENSE.txt" "$stock/AUTHORS" "$stock/package.json" "$dest/"
find "$dest" -type d -exec chmod 0755 {} +
find "$dest" -type f -exec chmod 0644 {} +
