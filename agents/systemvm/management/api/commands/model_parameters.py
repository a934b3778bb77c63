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
