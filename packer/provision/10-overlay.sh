#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the appliance's files over Debian's: configuration, units, policy, firewall.
set -eu
mkdir -p "$PAYLOAD"
tar -C "$PAYLOAD" -xf /tmp/payload.tar
rm /tmp/payload.tar
(cd "$PAYLOAD" && sha256sum --quiet --check SHA256SUMS)
tar -C / -xpf "$PAYLOAD/overlay.tar" --owner=0 --group=0 --no-overwrite-dir
