# SPDX-License-Identifier: Apache-2.0
"""Opens the guest's firewall for downloads while the SSVM runs: sites, the proxy, and SSVMs of other zones.

The mount helper does it, as root. It gets addresses and never rules, and refuses what no download may reach,
so that a compromised agent opens no more than an operator could.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from systemvm.guest import firewall
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.boot_argument_source import read_stored
from systemvm.guest.paths import GuestPaths
from systemvm.service.slowness import scaled_s
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.helper_call import Operation, Reply
from systemvm.ssvm.store.allowed_users import AGENT_USER, allow
from systemvm.ssvm.store_messages import OPEN_SOURCES, OpenSources, SourceServer
from systemvm.wire import denied_networks
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.transfer_failure import TransferFailure

NFT_TIMEOUT_S = 30.0
#: The sets that this replaces; each exists again with `6` appended.
SETS = ("fetch_allowed", "fetch_proxy", "fetch_servers", "fetch_stores")

_log = logging.getLogger(__name__)


class SourceFirewall:
    """The operation; without rules on this machine there is nothing to open."""

    def __init__(self, paths: GuestPaths) -> None:
        self._paths = paths

    def operations(self) -> dict[str, Operation]:
        def one_at_a_time(params: OpenSources) -> frozenset[str]:
            return frozenset({"the firewall"})

        agent = allow(AGENT_USER)
        return {OPEN_SOURCES: Operation(OpenSources, self.open_sources, agent, exclusive=one_at_a_time)}

    def open_sources(self, uid: int, order: OpenSources) -> Reply:
        """Replace all that is open for downloads inside of this cloud's own networks, in one transaction."""
        try:
            rules = self._paths.nftables.read_text()
        except FileNotFoundError:
            return Reply(Acknowledgement())
        try:
            text = script(firewall.declared_sets(rules), read_stored(self._paths), order)
        except BootError as error:
            raise TransferError(TransferFailure.REQUEST_INVALID, error.message, error.hint) from None
        run_nft(text)
        return Reply(Acknowledgement())


def script(declared: Mapping[str, str], boot: Mapping[str, str], order: OpenSources) -> str:
    """Return the input of `nft -f -`.

    Raises: TransferError for a server that nothing may open, BootError for such a proxy.
    """
    arguments = {**boot, "fetch_allowed": ",".join(order.allowed_sites), "fetch_proxy": order.proxy}
    lines = [
        f"flush set {declared[name]} {name}"
        for base in SETS
        for name in (base, f"{base}6")
        if name in declared
    ]
    lines += firewall.add_elements(
        declared, {"fetch_allowed": firewall.merged(denied_networks.opened_networks(arguments))}
    )
    lines += firewall.proxy_elements(declared, arguments)
    lines += firewall.bucket_elements(declared, boot)
    for server in order.servers:
        lines.append(_element(declared, "fetch_servers", server, _require_server(boot, server)))
    for server in order.endpoints:
        address = _address_of(server, denied_networks.why_not_a_bucket, boot)
        lines.append(_element(declared, "fetch_stores", server, address))
    return "\n".join(lines) + "\n"


def _element(
    declared: Mapping[str, str], base: str, server: SourceServer, address: IPv4Address | IPv6Address
) -> str:
    name = base if address.version == 4 else f"{base}6"
    if name not in declared:
        raise TransferError(
            TransferFailure.REQUEST_INVALID,
            f"this image cannot open its firewall for {address}",
            "destroy the secondary storage VM: the daemon creates one from the current image",
        )
    return f"add element {declared[name]} {name} {{ {address} . {server.port} }}"


def _require_server(boot: Mapping[str, str], server: SourceServer) -> IPv4Address | IPv6Address:
    """Return the address of an SSVM.

    Raises: TransferError when it cannot be the public address of another one.
    """
    return _address_of(server, denied_networks.why_not_an_ssvm, boot)


def _address_of(
    server: SourceServer,
    why_not: Callable[[Mapping[str, str], IPv4Address | IPv6Address], str | None],
    boot: Mapping[str, str],
) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(server.address)
    except ValueError:
        raise _invalid(f"server is not an IP address: {server.address[:80]!r}") from None
    why = why_not(boot, address)
    if why is not None:
        raise _invalid(f"firewall stays closed for {address}: {why}")
    if not 0 < server.port < 65536:
        raise _invalid(f"port is out of range: {server.port}, the range is 1 to 65535")
    return address


def _invalid(message: str) -> TransferError:
    return TransferError(TransferFailure.REQUEST_INVALID, message)


def run_nft(text: str) -> None:
    """Run one transaction.

    Raises: TransferError when it fails; the output is logged.
    """
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=scaled_s(NFT_TIMEOUT_S),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("cannot run nft: %s", error)
        raise _failed() from None
    if done.returncode:
        _log.warning("nft exited with status %d: %s", done.returncode, done.stderr.strip()[:500])
        raise _failed()


def _failed() -> TransferError:
    return TransferError(
        TransferFailure.INTERNAL,
        "firewall of the secondary storage VM cannot be changed",
        'run "journalctl -u systemvm-mount" in the SSVM',
    )
