# SPDX-License-Identifier: Apache-2.0
"""Parameters that commands of a zone's model share, and the objects that they name."""

from __future__ import annotations

from systemvm.management.api.parameters import Arguments, Parameter, ParameterType, optional, required
from systemvm.management.state import pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import DISABLED, ENABLED, Pod
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.refusals import invalid
from systemvm.management.zone_model.subnets import Subnet, read_subnet
from systemvm.management.zone_model.subnets6 import read_subnet6, with_ipv6

STRING, UUID, BOOLEAN = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN
INTEGER = ParameterType.INTEGER

ALLOCATION_STATE = optional(
    "allocationstate",
    STRING,
    "Enabled, or Disabled: nothing is started in it",
    choices=(ENABLED, DISABLED),
)
ZONE = required("zoneid", UUID, "UUID of the zone; see listZones")
POD = required("podid", UUID, "UUID of the pod; see listPods")


def identity(noun: str, listed_by: str) -> Parameter:
    return required("id", UUID, f"UUID of the {noun}; see {listed_by}")


def subnet_parameters(*, is_span_required: bool) -> tuple[Parameter, ...]:
    """Return gateway, netmask, startip and endip."""
    begin = "first address that the daemon assigns"
    end = "last address; startip by default"
    return (
        required("gateway", STRING, "address of the network's router"),
        required("netmask", STRING, "netmask of the network, for example 255.255.255.0"),
        (required if is_span_required else optional)("startip", STRING, begin),
        optional("endip", STRING, end),
    )


def subnet_of(arguments: Arguments) -> Subnet:
    """Return the subnet of these parameters. Raises: ModelError when one is wrong."""
    return read_subnet(
        arguments["gateway"], arguments["netmask"], arguments.text("startip"), arguments.text("endip")
    )


_OF_IPV4 = ("gateway", "netmask", "startip", "endip")


def subnet_parameters_of_either() -> tuple[Parameter, ...]:
    """Return the parameters of a range of IPv4, of IPv6, or of IPv4 with IPv6 in addition."""
    return (
        optional("gateway", STRING, "address of the network's router; omit it for IPv6 alone"),
        optional("netmask", STRING, "netmask of the network, for example 255.255.255.0"),
        optional("startip", STRING, "first address that the daemon assigns"),
        optional("endip", STRING, "last address; startip by default"),
        *ipv6_parameters(),
        optional("startipv6", STRING, "first IPv6 address that the daemon assigns"),
        optional("endipv6", STRING, "last IPv6 address; startipv6 by default"),
    )


def ipv6_parameters() -> tuple[Parameter, ...]:
    """Return those of an IPv6 network in addition."""
    return (
        optional(
            "ip6cidr",
            STRING,
            "IPv6 network; beside IPv4, the last 32 bits of an address are its IPv4 address",
        ),
        optional("ip6gateway", STRING, "address of its router, of the network or link-local"),
    )


def subnet_of_either(arguments: Arguments, *, needs_span: bool = False) -> Subnet:
    """Return the subnet of these parameters, which is of IPv6 alone without any of IPv4.

    Raises: ModelError when one is wrong or missing.
    """
    cidr6, gateway6 = arguments.text("ip6cidr"), arguments.text("ip6gateway")
    span6 = arguments.text("startipv6"), arguments.text("endipv6")
    if cidr6 is not None and not any(name in arguments for name in _OF_IPV4):
        _require(arguments, ["ip6gateway"], ["startipv6"] if needs_span else [])
        return read_subnet6(cidr6, arguments["ip6gateway"], *span6)
    _require(arguments, ["gateway", "netmask"], ["startip"] if needs_span else [])
    return with_ipv6(subnet_of(arguments), cidr6, gateway6, *span6)


def _require(arguments: Arguments, of_network: list[str], of_span: list[str]) -> None:
    for name in of_network + of_span:
        if name not in arguments:
            hint = "send gateway, netmask and startip; or ip6cidr, ip6gateway and startipv6 for IPv6 alone"
            raise invalid(name, "is missing", hint)


def zone_of(connection: Connection, arguments: Arguments) -> Zone:
    return zones.zone_by_uuid(connection, arguments["zoneid"])


def pod_of(connection: Connection, arguments: Arguments) -> Pod:
    """Return the pod of `podid`. Raises: ModelError when it is of another zone than `zoneid`."""
    pod = pods.pod_by_uuid(connection, arguments["podid"])
    if "zoneid" in arguments:
        zone = zone_of(connection, arguments)
        if pod.zone_id != zone.id:
            raise invalid("podid", f"pod {pod.name} is not in zone {zone.name}", "call listPods with zoneid")
    return pod
