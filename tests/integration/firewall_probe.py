# SPDX-License-Identifier: Apache-2.0
"""A guest's real rules, and the places to which they let one of its users connect.

For programs in a network namespace of their own, `unshare --net`. Nobody answers there: a connection that may
leave waits, any other is refused at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from systemvm.guest import firewall, network
from systemvm.guest.paths import GuestPaths

TOP = Path(__file__).resolve().parents[2]
Place = tuple[str, int]


def environment() -> dict[str, str]:
    """Return the environment in which such a program can import this module."""
    return {"PYTHONPATH": f"{TOP / 'agents'}:{TOP / 'tests'}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def load_rules(
    paths: GuestPaths, boot: Mapping[str, str], own: Iterable[str], places: Iterable[Place]
) -> None:
    """Load the rules as preinit does, on a cable with the addresses `own` and the places at its other end."""
    addresses = sorted({address for address, _ in places})
    for command in (
        "link set lo up",
        "link add eth2 type veth peer name wire2",
        "link set wire2 up",
        *(f"addr add {address}/24 dev eth2" for address in own),
        "link set eth2 up",
        *(f"neigh add {address} lladdr 02:00:00:00:00:01 dev eth2 nud permanent" for address in addresses),
    ):
        subprocess.run(["ip", *command.split()], check=True)
    text = firewall.script(paths.nftables, network.make_plan(boot), boot)
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def open_places(user_id: int, places: Sequence[Place]) -> list[str]:
    """Return those that the user can connect to."""
    return [f"{address}:{port}" for address, port in places if _is_open(user_id, address, port)]


def _is_open(user_id: int, address: str, port: int) -> bool:
    pid = os.fork()
    if pid == 0:
        os.setuid(user_id)
        with socket.socket() as probe:
            probe.settimeout(0.2)
            try:
                probe.connect((address, port))
            except TimeoutError:
                os._exit(0)
            except OSError:
                os._exit(1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
