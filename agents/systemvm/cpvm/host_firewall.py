# SPDX-License-Identifier: Apache-2.0
"""`systemvm-console-hosts`: opens the CPVM's firewall for hosts with consoles of their own, at port 443.

It runs as root, one process for each change (systemvm-console-hosts.socket), because changes are rare. It
reads addresses and never rules, and refuses what no console can be at, so that a compromised agent opens no
more than an operator could. Only Python's own library is imported: Python starts slowly under emulation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import TextIO

from systemvm.guest import firewall
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.boot_argument_source import read_stored
from systemvm.guest.paths import GuestPaths
from systemvm.guest.root_option import split_root
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.wire.denied_networks import why_not_a_host

SET = "console_hosts"
MAX_ADDRESSES = 4096
MAX_ORDER_BYTES = 256 * 1024
NFT_TIMEOUT_S = 30.0


class OrderError(SystemVmError):
    """An order that cannot be carried out; nothing has changed."""

    code = FailureCode.INVALID


def script(rules: str, boot: Mapping[str, str], order: object) -> str:
    """Return the input of `nft -f -` that opens exactly these addresses.

    Raises: OrderError for what is no list of addresses, or an address that no host has.
    """
    declared = firewall.declared_sets(rules)
    if SET not in declared or f"{SET}6" not in declared:
        raise OrderError("this image cannot open its firewall for other hosts")
    if not isinstance(order, list) or len(order) > MAX_ADDRESSES:
        raise OrderError("the order is not a list of addresses")
    networks = []
    for text in order:
        try:
            address = ip_address(text) if isinstance(text, str) else None
        except ValueError:
            address = None
        if address is None:
            raise OrderError("the order is not a list of addresses")
        why = why_not_a_host(boot, address)
        if why is not None:
            raise OrderError(f"firewall stays closed for {address}: {why}")
        networks.append(ip_network(address))
    flush = [f"flush set {declared[name]} {name}" for name in (SET, f"{SET}6")]
    return "\n".join([*flush, *firewall.add_elements(declared, {SET: firewall.merged(networks)})]) + "\n"


def carry_out(paths: GuestPaths, text: str) -> None:
    """Change the firewall.

    Raises: OrderError.
    """
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        raise OrderError("the order is not JSON") from None
    try:
        commands = script(paths.nftables.read_text(), read_stored(paths), order)
    except BootError as error:
        raise OrderError(error.message) from None
    done = subprocess.run(
        ["nft", "-f", "-"], input=commands, capture_output=True, text=True, timeout=scaled_s(NFT_TIMEOUT_S),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.stderr.write(f"systemvm-console-hosts: nft: {done.stderr.strip()[:500]}\n")
        raise OrderError("nft rejects the change")


def main(arguments: list[str] | None = None, orders: TextIO = sys.stdin, answers: TextIO = sys.stdout) -> int:
    """Read one line with an order, and answer one with `error`, which is empty when it is done."""
    try:
        root, _ = split_root(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        sys.stderr.write(f"systemvm-console-hosts: {error}\n")
        return 2
    try:
        carry_out(GuestPaths.from_environment(root, os.environ), orders.readline(MAX_ORDER_BYTES))
        problem = ""
    except (OrderError, OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
        sys.stderr.write(f"systemvm-console-hosts: {problem}\n")
    answers.write(json.dumps({"error": problem}) + "\n")
    answers.flush()
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
