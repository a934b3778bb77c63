# SPDX-License-Identifier: Apache-2.0
"""What deployVirtualMachine takes, and what it comes to: everything asked for is done, or refused by name."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.command import ApiCall
from systemvm.management.api.commands.templates import named_or_only_zone
from systemvm.management.api.commands.zones import OFFERINGS, Offering
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import Arguments, ParameterType, only, optional, required
from systemvm.management.api.principal import Principal
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.state import templates
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import Zone
from systemvm.management.virtual_machines.deployment import GIB, MAX_DISK_BYTES

MAX_DISPLAY_NAME_CHARACTERS = 255
#: The one key of `details` that is served; CloudStack gives it precedence over the parameter of that name.
_ROOT_DISK_SIZE = "rootdisksize"

PARAMETERS = (
    required("zoneid", ParameterType.UUID, "the zone"),
    required("templateid", ParameterType.UUID, "a Ready template or ISO"),
    required("serviceofferingid", ParameterType.UUID, "the size; see listServiceOfferings"),
    *OWNER,
    optional("name", ParameterType.STRING, "host name; made from a number without it"),
    optional("displayname", ParameterType.STRING, "what people see; the name without it"),
    optional("hypervisor", ParameterType.STRING, "KVM", choices=("KVM",)),
    optional(_ROOT_DISK_SIZE, ParameterType.INTEGER, "size of its disk in GiB, at least the template's"),
    optional("size", ParameterType.INTEGER, "with an ISO: size of its disk in GiB"),
    optional("details", ParameterType.MAP, "further settings: details[0].rootdisksize and no others"),
    optional("networkids", ParameterType.LIST, "the zone's guest network and no others; see listNetworks"),
    optional("startvm", ParameterType.BOOLEAN, "false: leave it Stopped"),
    only("displayvm", ParameterType.BOOLEAN, "its user sees it", True),
    only("dynamicscalingenabled", ParameterType.BOOLEAN, "its size changes while it runs", False),
    only("copyimagetags", ParameterType.BOOLEAN, "it takes over the template's tags", False),
    only("bootintosetup", ParameterType.BOOLEAN, "it boots into its firmware's setup", False),
    optional("boottype", ParameterType.STRING, "its firmware: BIOS", choices=("BIOS",)),
    optional("bootmode", ParameterType.STRING, "how its firmware boots: LEGACY", choices=("LEGACY",)),
)


@frozen
class DeployRequest:
    """A deployment whose names have been looked up."""

    zone: Zone
    template: Template
    offering: Offering
    owner: Account
    name: str | None
    display_name: str | None
    disk_bytes: int | None


def read_request(connection: Connection, call: ApiCall) -> DeployRequest:
    """ApiError 431 names the parameter that cannot be served, 401 what is not the caller's to use."""
    arguments = call.arguments
    zone = named_or_only_zone(connection, arguments["zoneid"])
    template = _usable_template(connection, arguments["templateid"], call.principal)
    if template.zone_id not in (None, zone.id):
        raise parameter_error(f"{template.name} is not in zone {zone.name}", "register it there")
    _check_networks(arguments, zone)
    return DeployRequest(
        zone=zone,
        template=template,
        offering=_offering(arguments["serviceofferingid"]),
        owner=owner_of(connection, call),
        name=arguments.text("name"),
        display_name=_display_name(arguments.text("displayname")),
        disk_bytes=_disk_bytes(arguments, template),
    )


def _usable_template(connection: Connection, uuid: str, principal: Principal) -> Template:
    template = templates.by_uuid(connection, uuid)
    if not (template.public or principal.may_use(template.account_id)):
        raise unauthorized(f"{principal.account.name} may not use this template")
    return template


def _check_networks(arguments: Arguments, zone: Zone) -> None:
    network = guest_network_of(zone)
    for asked in arguments.get("networkids", []):
        if asked.lower() != network.id:
            raise parameter_error(
                f"Unable to find a network with the id {asked[:64]} in zone {zone.name}",
                f"machines are on {network.name}, {network.id}; see listNetworks",
            )


def _offering(uuid: str) -> Offering:
    for offering in OFFERINGS:
        if offering.uuid == uuid:
            return offering
    raise parameter_error(f"there is no service offering with the id {uuid}", "see listServiceOfferings")


def _display_name(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_DISPLAY_NAME_CHARACTERS:
        raise parameter_error(
            f"Invalid value for parameter displayname: at most {MAX_DISPLAY_NAME_CHARACTERS} characters"
        )
    return text or None


def _disk_bytes(arguments: Arguments, template: Template) -> int | None:
    """The size of the one disk, by whichever parameter names it; None for the template's own."""
    details = {key.lower(): value for key, value in arguments.get("details", {}).items()}
    unserved = sorted(details.keys() - {_ROOT_DISK_SIZE})
    if unserved:
        raise parameter_error(
            f"details[0].{unserved[0][:64]} is not supported in this release", "leave it out"
        )
    if "size" in arguments and not template.is_iso:
        raise parameter_error(
            "size is not supported with a template: it is the size of a data disk",
            "leave it out; rootdisksize is the size of the root disk",
        )
    if "size" in arguments and (_ROOT_DISK_SIZE in arguments or _ROOT_DISK_SIZE in details):
        raise parameter_error(
            "size and rootdisksize are given, and the machine has one disk", "leave one of them out"
        )
    if _ROOT_DISK_SIZE in details:
        return _gib("details[0].rootdisksize", _whole(details[_ROOT_DISK_SIZE]))
    for name in (_ROOT_DISK_SIZE, "size"):
        if name in arguments:
            return _gib(name, arguments[name])
    return None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0  # refused like a size that is too small


def _gib(name: str, size_gib: int) -> int:
    if not 1 <= size_gib <= MAX_DISK_BYTES // GIB:
        raise parameter_error(
            f"Invalid value for parameter {name}: a whole number of GiB, 1 to {MAX_DISK_BYTES // GIB}"
        )
    return size_gib * GIB
