# SPDX-License-Identifier: Apache-2.0
"""A network of the host: a bridge, the traffic types that it carries, and its addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from attrs import field, frozen

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

#: The link-local network between a host and its system VMs; it has no uplink.
CONTROL_TRAFFIC = "control"
MANAGEMENT_TRAFFIC = "management"

#: IFNAMSIZ without its NUL; these names occur unquoted in nft's input and in paths below /proc.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}")


def _is_label(_instance: object, _attribute: object, value: str) -> None:
    if not _LABEL.fullmatch(value):
        raise ValueError(f"{value!r} is not a bridge name: use at most 15 letters, digits, - and _")


@frozen
class HostNetwork:
    """One bridge of this host and its traffic types."""

    bridge: str = field(validator=_is_label)
    traffic_types: tuple[str, ...]
    addresses: tuple[Interface, ...] = ()
    uplink: str | None = None  # an interface of the host that becomes a port of the bridge

    @classmethod
    def of(cls, bridge: str, traffic_types: Sequence[str], *addresses: str) -> HostNetwork:
        """
        >>> HostNetwork.of("cloud0", ["control"], "169.254.0.1/16").addresses
        (IPv4Interface('169.254.0.1/16'),)
        """
        return cls(bridge, tuple(traffic_types), tuple(ipaddress.ip_interface(text) for text in addresses))

    @property
    def is_control(self) -> bool:
        return CONTROL_TRAFFIC in self.traffic_types

    @property
    def is_management(self) -> bool:
        return MANAGEMENT_TRAFFIC in self.traffic_types
