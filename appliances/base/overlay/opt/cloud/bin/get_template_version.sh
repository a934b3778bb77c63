#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints `<release>&<signature of the scripts>` when the boot is complete; here the signature is that of the image.
tries=240
until [ -s /var/cache/cloud/boot_up_done ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "error: the boot is not complete after 240 s" >&2; exit 1; }
    sleep 1
done
signature=$(sha256sum /etc/systemvm/image.json)
printf '%s&%s\n' "$(cat /etc/cloudstack-release)" "${signature%% *}"
