# SPDX-License-Identifier: Apache-2.0
"""The command lines that bench-download compares with: shell scripts with `$url`, `$ca` and `$sum` set.

Each of them downloads, verifies a SHA-256 checksum and leaves a durable file, as an operator would have it.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from attrs import frozen

_CURL = 'curl -sS --fail --cacert "$ca" -o part "$url"'
_SHA256SUM = 'echo "$sum  part" | sha256sum --check --status'
_OPENSSL = '[ "$(openssl dgst -sha256 -r part | cut -d" " -f1)" = "$sum" ]'
_DURABLE = "sync image"

PEERS = {
    "curl; sha256sum": f"{_CURL}; {_SHA256SUM}; mv part image; {_DURABLE}",
    "curl; openssl": f"{_CURL}; {_OPENSSL}; mv part image; {_DURABLE}",
    "aria2c -x4": 'aria2c -q -x4 -s4 -k16M --file-allocation=none --ca-certificate="$ca"'
    ' --checksum="sha-256=$sum" -o image "$url"; ' + _DURABLE,
    "curl; sha256sum; gunzip; qemu-img": f"{_CURL}; {_SHA256SUM}; gunzip -c part > image;"
    f" qemu-img info -f raw image > info; {_DURABLE}; rm part",
    "curl; openssl; igzip; qemu-img": f"{_CURL}; {_OPENSSL}; igzip -d -c part > plain;"
    f" qemu-img convert -f raw -O raw -S 64k plain image; {_DURABLE}; rm part plain",
    "curl; sha256sum; qemu-img": f"{_CURL}; {_SHA256SUM}; mv part image; qemu-img info -f qcow2 image > info;"
    f" {_DURABLE}",
    "curl; sha256sum; mv": f"{_CURL}; {_SHA256SUM}; mv part image; {_DURABLE}",
}


@frozen
class Cost:
    """Wall-clock seconds, and CPU seconds in user and kernel mode."""

    wall_s: float
    cpu_s: float


def run_peer(script: str, directory: Path, namespace: str, variables: dict[str, str]) -> Cost:
    """Run one script in `directory` and a network namespace; its output ends the benchmark when it fails.

    Raises: SystemExit when the script fails.
    """
    command = ["nsenter", f"--net=/run/netns/{namespace}", "bash", "-euo", "pipefail", "-c", script]
    began_s = time.monotonic()
    process = subprocess.Popen(
        command, cwd=directory, env={**os.environ, **variables}, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"error: peer failed: {script}\n{errors.decode(errors='replace')}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime)
