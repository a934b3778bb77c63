# SPDX-License-Identifier: Apache-2.0
"""The networks that a zone keeps for itself, from the boot arguments: no image comes from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from systemvm.ssvm.fetch_messages import DeniedNetwork

_NICS = range(8)


def denied_networks(boot: Mapping[str, str]) -> list[DeniedNetwork]:
    """Control, management and storage networks, the stores' servers, and this VM's own addresses."""
    found: dict[str, str] = {}
    for cidr, what in _named(boot):
        try:
            network = ip_network(cidr, strict=False)
        except ValueError:
            continue  # an absent NIC has no address; preinit has refused what is broken
        if network.prefixlen:
            found.setdefault(str(network), what)
    return [DeniedNetwork(cidr, what) for cidr, what in found.items()]


def _named(boot: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    public = boot.get("public.network.device", "eth2")
    management = boot.get("private.network.device", "eth1")
    for cidr in boot.get("mgmtcidr", "").split(","):
        yield cidr.strip(), "the management network"
    yield f"{boot.get('storageip', '')}/{boot.get('storagenetmask', '')}", "the storage network"
    for number in _NICS:
        device = f"eth{number}"
        address, mask = boot.get(f"{device}ip", ""), boot.get(f"{device}mask", "")
        if device == public:
            yield address, "this VM itself"
        elif number == 0:
            yield f"{address}/{mask}", "the control network"
        elif device == management:
            yield f"{address}/{mask}", "the management network"
        else:
            yield f"{address}/{mask}", "the storage network"
    for key, what in (
        ("host", "a management server"),
        ("secondaryStorageServerAddress", "a storage server"),
        ("localgw", "the management network's gateway"),
        ("storagegateway", "the storage network's gateway"),
    ):
        for text in boot.get(key, "").split(","):
            if _is_address(text.strip()):
                yield text.strip(), what


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False
