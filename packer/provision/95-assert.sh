#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails the build if the image contains something forbidden, or lacks something required.
set -eu
fail() {
    echo "error: $*" >&2
    exit 1
}
lib=/opt/systemvm/current/lib
for key in /etc/ssh/ssh_host_*; do
    if [ ! -L "$key" ] || [ -e "$key" ]; then fail "the image holds an ssh host key: $key"; fi
done
[ ! -s /etc/machine-id ] || fail "the image holds a machine id"
if [ ! -L /root/.ssh ] || [ -e /root/.ssh ]; then fail "the image holds ssh keys for root"; fi
while IFS=: read -r user secret _; do
    case $secret in '*' | '!'*) ;; *) fail "user $user has a password" ;; esac
done < /etc/shadow
[ -z "$(find /etc/apt -name '*.list' -o -name '*.sources')" ] || fail "the image names a package mirror"
[ -z "$(find / -xdev -type f -perm /6000)" ] || fail "a program is set-uid or set-gid"
find /usr /opt -xdev -type f -perm /111 -print0 | python3 -IS -c '
import os, sys

paths = filter(None, sys.stdin.buffer.read().split(b"\0"))
sys.exit(any("security.capability" in os.listxattr(path) for path in paths))
' || fail "a program has capabilities of its own"

while read -r user; do
    id "$user" > /dev/null 2>&1 || fail "user $user was not made"
done < "$PAYLOAD/users"

# every module of ours can be imported: all its dependencies are installed
python3 -IS - "$lib" "$PAYLOAD/programs" <<'PYTHON' || fail "a module is missing or incomplete"
import importlib, pathlib, sys

lib = pathlib.Path(sys.argv[1])
sys.path.append(str(lib))
for path in sorted((lib / "systemvm").rglob("*.py")):
    name = ".".join(path.relative_to(lib).with_suffix("").parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        importlib.import_module(name)
for line in pathlib.Path(sys.argv[2]).read_text().split():
    importlib.import_module(line.partition(":")[2]).main
PYTHON
# every module is compiled
[ -z "$(find "$lib" -name '*.py' -size +0 | while read -r source; do
    directory=${source%/*} name=${source##*/}
    set -- "$directory/__pycache__/${name%.py}".cpython-*.pyc
    [ -e "$1" ] || echo "$source"
done)" ] || fail "some Python files are not compiled"
