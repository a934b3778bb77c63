# SPDX-License-Identifier: Apache-2.0
"""`systemvm-check`: the checks from a shell in the guest (ssvm-check.sh), or as JSON for the agent.

It runs as root. The sandboxed agent reaches neither name servers nor the store, so it calls this program
through systemvm-check.socket, one process for each report.
"""

from __future__ import annotations

import json
import os
import sys

import attrs

from systemvm.guest import boot_argument_source, check, probes
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.guest.root_option import split_root
from systemvm.service.slowness import scaled_s

AGENT_TIMEOUT_S = 5.0


def real_probes(paths: GuestPaths) -> check.Probes:
    def agent_state() -> str:
        from systemvm.rpc.core.errors import RpcError
        from systemvm.rpc.http.unix import unix_call

        try:
            answer = unix_call(
                str(paths.agent_socket), "agent.state", {}, timeout_s=scaled_s(AGENT_TIMEOUT_S)
            )
        except RpcError as error:
            raise OSError(error.message) from error
        return str(answer["text"])

    return check.Probes(probes.ping, probes.ask_dns, probes.connect, probes.write_file, agent_state)


def situation(paths: GuestPaths) -> check.CheckInput:
    with open("/proc/self/mounts") as mounts:  # noqa: PTH123 - pathlib is not imported for one file
        mounted = mounts.read()
    resolv_conf = paths.resolv_conf.read_text() if paths.resolv_conf.exists() else ""
    return check.CheckInput(boot_argument_source.read_stored(paths), resolv_conf, mounted)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return 0, CloudStack's 2 (DNS), 3 (agent) or 4 (management server), 1 on failure."""
    try:
        root, options = split_root(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        sys.stderr.write(f"systemvm-check: {error}\n")
        return 1
    as_json = "--json" in options
    paths = GuestPaths.from_environment(root, os.environ)
    try:
        report = check.run(situation(paths), real_probes(paths))
    except BootError as error:
        sys.stderr.write(f"systemvm-check: {error}\n")
        return 1
    sys.stdout.write(json.dumps(attrs.asdict(report)) + "\n" if as_json else check.text(report))
    return 0 if as_json else check.exit_code(report)


if __name__ == "__main__":
    sys.exit(main())
