#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The agents and the packages they need, from wheels whose hashes were checked; compiled once, here.
set -eu
version=$(cat "$PAYLOAD/version")
home=/opt/systemvm/$version
lib=$home/lib
mkdir -p "$lib" "$home/bin"
for wheel in "$PAYLOAD"/wheels/*.whl; do
    python3 -I -m zipfile -e "$wheel" "$lib"
done
# a wheel's scripts and headers are for developers
rm -rf "$lib"/*.data
while read -r part; do
    # shellcheck disable=SC2086 # patterns are meant
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

# unchecked: neither the source's time nor its content is looked at when a program starts
python3 -I -m compileall -q -f --invalidation-mode unchecked-hash "$lib"
