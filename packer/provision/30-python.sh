#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the agents and their packages from wheels with checked hashes, and compiles them.
set -eu
version=$(cat "$PAYLOAD/version")
home=/opt/systemvm/$version
lib=$home/lib
mkdir -p "$lib" "$home/bin"
for wheel in "$PAYLOAD"/wheels/*.whl; do
    python3 -I -m zipfile -e "$wheel" "$lib"
done
# scripts and headers of wheels are not needed
rm -rf "$lib"/*.data
while read -r part; do
    # shellcheck disable=SC2086 # patterns are intended
    [ -z "$part" ] || rm -rf "${lib:?}"/$part
done < "$PAYLOAD/python-prune"
find "$lib" -type d \( -name test -o -name tests \) -prune -exec rm -rf {} +
find "$lib" -type d -exec chmod 755 {} +
find "$lib" -type f -exec chmod 644 {} +

while IFS=: read -r program module; do
    cat > "$home/bin/$program" <<PROGRAM
#!/usr/bin/python3 -IS
import sys

sys.path.append("$lib")
from $module import main

sys.exit(main())
PROGRAM
    chmod 755 "$home/bin/$program"
done < "$PAYLOAD/programs"
ln -sfn "$version" /opt/systemvm/current

# unchecked: a program starts without checking the source's time or content
python3 -I -m compileall -q -f --invalidation-mode unchecked-hash "$lib"
