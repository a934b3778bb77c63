#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs any version of Packer on this directory's HCL, in its own network namespace: its ssh forward listens on every
# address, and no package index must be reachable while it installs.
# usage: run-packer.sh init|validate|build WORK_DIRECTORY VARIABLES.json   (init fetches a plugin, where one is needed)
set -euo pipefail

command=$1 work=$2 variables=$3
here=$(cd "$(dirname "$0")" && pwd)
export PACKER_CACHE_DIR=$work/cache PACKER_CONFIG_DIR=$work/config CHECKPOINT_DISABLE=1 PACKER_NO_COLOR=1
mkdir -p "$PACKER_CACHE_DIR" "$PACKER_CONFIG_DIR"

# a copy, because Packer reads every file of the directory and 1.6 rejects the one that later releases need
hcl=$work/hcl
rm -rf "$hcl"
mkdir -p "$hcl"
cp -r "$here"/*.pkr.hcl "$here/provision" "$hcl/"
version=$(packer version | sed -n 's/^Packer v\([0-9.]*\).*/\1/p' | head -n 1)
if [ "$(printf '%s\n' 1.7.0 "$version" | sort -V | head -n 1)" = 1.7.0 ]; then
    cp "$here/plugins.pkr.hcl.in" "$hcl/plugins.pkr.hcl"
    # the plugin is in the cache after `make fetch`; then this makes no request
    export PACKER_PLUGIN_PATH=${PACKER_PLUGIN_PATH:-${CACHE:-$here/../build/cache}/packer-plugins}
    packer init "$hcl"
fi
[ "$command" != init ] || exit 0

if [ "$command" = validate ]; then
    exec packer validate -var-file="$variables" "$hcl"
fi
exec unshare --net -- sh -c 'ip link set lo up && exec packer "$@"' packer \
    "$command" -timestamp-ui -var-file="$variables" "$hcl"
