#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints `<release>&<signature of the scripts>` when the boot is done; here the signature is the image's own.
tries=240
until [ -s /var/cache/cloud/boot_up_done ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "error: this boot is not done after 240 s" >&2; exit 1; }
    sleep 1
done
signature=$(sha256sum /etc/systemvm/image.json)
printf '%s&%s\n' "$(cat /etc/cloudstack-release)" "${signature%% *}"
