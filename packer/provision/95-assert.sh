#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The build ends here if anything is in the image that must not be, or is not that must.
set -eu
fail() {
    echo "error: $*" >&2
    exit 1
}
lib=/opt/systemvm/current/lib
set -- /etc/ssh/ssh_host_*
[ ! -e "$1" ] || fail "the image holds an ssh host key: $1"
[ ! -s /etc/machine-id ] || fail "the image holds a machine id"
[ -z "$(ls -A /root/.ssh)" ] || fail "the image holds an ssh key for root"
while IFS=: read -r user secret _; do
    case $secret in '*' | '!'*) ;; *) fail "user $user has a password" ;; esac
done < /etc/shadow
[ -z "$(find /etc/apt -name '*.list' -o -name '*.sources')" ] || fail "the image names a package mirror"

# every program of ours starts: its module and all that it imports are there, compiled
while IFS=: read -r program module; do
    python3 -IS -c "import sys; sys.path.append('$lib'); import $module; $module.main" \
        || fail "$program: $module is missing or incomplete"
done < "$PAYLOAD/programs"
[ -z "$(find "$lib" -name '*.py' -size +0 | while read -r source; do
    directory=${source%/*} name=${source##*/}
    set -- "$directory/__pycache__/${name%.py}".cpython-*.pyc
    [ -e "$1" ] || echo "$source"
done)" ] || fail "some Python files are not compiled"
[ -z "$(systemctl list-units --failed --plain --no-legend)" ] || fail "units failed while building"
