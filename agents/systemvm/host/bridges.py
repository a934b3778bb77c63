# SPDX-License-Identifier: Apache-2.0
"""A network of the host: a bridge, the traffic types that it carries, and its addresses."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from systemvm.service.errors import SystemVmError

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

#: The link-local network between a host and its system VMs; it has no uplink.
CONTROL_TRAFFIC = "control"
MANAGEMENT_TRAFFIC = "management"
GUEST_TRAFFIC = "guest"

#: IFNAMSIZ without its NUL; these names occur unquoted in nft's input and in paths below /proc.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}")

#: Tags that a network can have: 0 is no tag, 1 is Linux's name for untagged frames, 4095 is reserved.
VLANS = range(2, 4095)
_SPAN = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


class BridgeKind(enum.Enum):
    LINUX = "linux"
    OPENVSWITCH = "openvswitch"


class Datapath(enum.Enum):
    """What moves the frames of an Open vSwitch bridge, by the names of its `datapath_type`."""

    SYSTEM = "system"  # the kernel's module openvswitch
    NETDEV = "netdev"  # ovs-vswitchd itself


def parse_vlans(texts: Iterable[str]) -> frozenset[int]:
    """Return the VLANs of texts such as 100 and 200-299.

    >>> sorted(parse_vlans(["100", "200-202"]))
    [100, 200, 201, 202]

    Raises: ValueError when one is not a VLAN.
    """
    found: set[int] = set()
    for text in texts:
        match = _SPAN.fullmatch(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if first > last or first not in VLANS or last not in VLANS:
            raise ValueError(f"{text!r} is not a VLAN: write it as 100 or 200-299, from 2 to 4094")
        found.update(range(first, last + 1))
    return frozenset(found)


def format_vlans(vlans: Iterable[int]) -> str:
    """Return VLANs as they are written in `host.yaml`.

    >>> format_vlans([100, 200, 201, 202])
    '100, 200-202'
    """
    spans: list[list[int]] = []
    for vlan in sorted(vlans):
        if spans and vlan == spans[-1][1] + 1:
            spans[-1][1] = vlan
        else:
            spans.append([vlan, vlan])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def check_kind(kind: BridgeKind, datapath: Datapath | None, *, is_control: bool) -> None:
    """Raises: ValueError when a bridge of this kind cannot be."""
    if kind is BridgeKind.OPENVSWITCH and is_control:
        raise ValueError(
            "kind: control traffic needs a Linux bridge, whose forwarding table names the system VM that a "
            "connection comes from; remove kind"
        )
    if kind is BridgeKind.LINUX and datapath is not None:
        raise ValueError("datapath: only bridges of kind openvswitch have one; remove it, or set that kind")


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
    #: The VLANs that VMs can be in: their own frames have no tag.
    vlans: frozenset[int] = frozenset()
    kind: BridgeKind = BridgeKind.LINUX
    datapath: Datapath | None = None  # of Open vSwitch; None is what the bridge has, SYSTEM when it is made
    #: Why the bridge cannot be made at present.
    unusable: SystemVmError | None = field(default=None, eq=False)
    guest_cidr: ipaddress.IPv4Network | None = None  # the subnets of isolated networks are in it
    #: The host's own addresses in guest VLANs.
    vlan_addresses: tuple[tuple[int, tuple[Interface, ...]], ...] = ()
    tag: int | None = None  # of the bridge of a guest VLAN: what it has on the uplink

    def __attrs_post_init__(self) -> None:
        check_kind(self.kind, self.datapath, is_control=self.is_control)

    @classmethod
    def of(cls, bridge: str, traffic_types: Sequence[str], *addresses: str) -> HostNetwork:
        """
        >>> HostNetwork.of("cloud0", ["control"], "169.254.0.1/16").addresses
        (IPv4Interface('169.254.0.1/16'),)
        """
        return cls(bridge, tuple(traffic_types), tuple(ipaddress.ip_interface(text) for text in addresses))

    @property
    def filtered_vlans(self) -> frozenset[int]:
        """The VLANs that this bridge itself keeps apart. A guest VLAN has a bridge of its own."""
        return self.vlans if set(self.traffic_types) - {GUEST_TRAFFIC} else frozenset()

    @property
    def is_guest(self) -> bool:
        return GUEST_TRAFFIC in self.traffic_types and not self.is_control

    @property
    def is_control(self) -> bool:
        return CONTROL_TRAFFIC in self.traffic_types

    @property
    def is_management(self) -> bool:
        return MANAGEMENT_TRAFFIC in self.traffic_types
