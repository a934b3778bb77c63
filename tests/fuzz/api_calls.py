# SPDX-License-Identifier: Apache-2.0
"""Calls for the fuzzer of the API: a plain call of each command, and what its parameters can be instead."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from fuzz.api_world import FuzzedCloud
from systemvm.management.api.command import Command
from systemvm.management.api.parameters import Parameter, ParameterType

Call = Mapping[str, str]
NOWHERE = "00000000-0000-4000-8000-000000000000"

#: The table of what `id` of a command is, by the noun in the command's name; longer nouns first.
_NOUNS = (
    ("SecondaryStagingStore", "image_stores"), ("ImageStoreObject", "image_stores"),
    ("ImageStore", "image_stores"), ("SecondaryStorage", "image_stores"),
    ("SnapshotPolic", "snapshot_policies"),
    ("StorageNetworkIpRange", "address_ranges"), ("VlanIpRange", "address_ranges"),
    ("StoragePool", "storage_pools"), ("StorageMaintenance", "storage_pools"),
    ("PhysicalNetwork", "physical_networks"), ("TrafficType", "traffic_types"),
    ("ServiceOffering", "service_offerings"), ("DiskOffering", "disk_offerings"),
    ("ConsoleRecording", "console_recordings"), ("ConsoleSession", "console_sessions"),
    ("SystemVm", "system_vms"), ("ConsoleProxy", "system_vms"), ("VirtualMachine", "vm_instances"),
    ("UploadParams", "templates"), ("Template", "templates"), ("Iso", "isos"), ("Snapshot", "snapshots"),
    ("RolePermission", "role_permissions"), ("Role", "roles"),
    ("Volume", "volumes"), ("Account", "accounts"), ("User", "users"), ("Domain", "domains"),
    ("Zone", "zones"),
    ("Pod", "pods"), ("Cluster", "clusters"), ("Host", "hosts"), ("Event", "events"), ("Alert", "events"),
)  # fmt: skip
_BY_NAME = {
    "virtualmachineid": "vm_instances", "networkids": "physical_networks", "accountid": "accounts",
    "targetid": "system_vms", "jobid": "async_jobs", "storageid": "storage_pools", "srcpool": "image_stores",
    "destpools": "image_stores", "serviceofferingid": "service_offerings", "diskofferingid": "disk_offerings",
    "resourceids": "vm_instances", "resourceid": "vm_instances", "destzoneid": "zones",
    "destzoneids": "zones",
    "sourcezoneid": "zones", "isoid": "isos", "physicalnetworkid": "physical_networks",
    "consolesessionid": "console_sessions", "roleid": "roles", "usageid": "vm_instances",
}  # fmt: skip
#: A value of each parameter that must be text or a number of some form.
_PLAIN = {
    "url": "https://images.example.test/tiny.qcow2", "format": "QCOW2", "gateway": "10.77.0.1",
    "netmask": "255.255.255.0", "startip": "10.77.0.10", "endip": "10.77.0.20", "dns1": "203.0.113.10",
    "internaldns1": "10.11.0.2", "email": "fuzz@example.test", "schedule": "30:02", "timezone": "UTC",
    "maxsnaps": "1", "cpunumber": "1", "memory": "64", "resourcetype": "11", "size": "1", "keys": "a",
    "value": "1", "hash": "0" * 64, "serial": "ab", "password": "a long enough password", "lock": "true",
    "ipaddress": "10.11.0.1", "directoryurl": "https://acme.example.test", "domainsuffix": "example.test",
    "startdate": "2020-01-01", "enddate": "2030-12-31",
}  # fmt: skip
_OTHERS = {"registerIso": {"url": "https://images.example.test/cd.iso"}}

_DESTRUCTIVE = (
    *("delete", "destroy", "expunge", "disable", "end", "retire", "revert", "stop"),
    *("updateUser", "updateAccount", "registerUserKeys"),
)
_HUGE = "x" * 4096
#: What no parameter expects: out of range, of the wrong type, of another form.
WRONG: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "1.5", "NaN", "1e400", "9" * 19, "-" + "9" * 30, "9" * 4000, "\u0661\u0662",
    "1_0", "true", "null", "{}", "[]", "../../etc/passwd", "' OR 1=1 --", "%s%n\\", "a\x00b", "a\nb",
    "\u202e\U0001f600", "\ufffe", _HUGE, "x" * 5000, ",".join(["x"] * 2000), "a" * 256,
    "0001-01-01", "9998-12-31T23:59:59+14:00", "2027-02-30", "1970-01-01T00:00:00-23:59",
    NOWHERE, NOWHERE.replace("-", ""), "{" + NOWHERE + "}",
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "https://[::1", "http://a:99999999/",
    "nfs://10.12.0.2/export/other", "255.255.255.255", "10.77.0.0/33", "::ffff:10.0.0.1", "*:*:*",
)  # fmt: skip
#: Values that are too large, and of another type, by the parameter's type.
_TOO_LARGE: dict[ParameterType, tuple[str, ...]] = {
    ParameterType.INTEGER: ("9" * 19, "-" + "9" * 30),
    ParameterType.DATE: ("9998-12-31T23:59:59+14:00", "1970-01-01T00:00:00-23:59"),
}
_OF_ANOTHER_TYPE = {
    ParameterType.INTEGER: ("1.5", "true"),
    ParameterType.STRING: ("https://[::1",),
    ParameterType.DATE: ("2027-02-30",),
    ParameterType.UUID: (NOWHERE, "x"),
}
#: Values of an entry of a map, by the rest of its name.
_ENTRIES = ("key", "value", "x.y", "rootDiskController", "0", "k" * 200)
_MAPS = (ParameterType.MAP, ParameterType.MAPS, ParameterType.TAGS)


def kind_of(command: Command, parameter: Parameter) -> str | None:
    """Return the table of the object that a parameter names; None when it is not an id."""
    name = parameter.name
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name in ("id", "ids"):
        return next((kind for noun, kind in _NOUNS if noun.lower() in command.name.lower()), "events")
    if parameter.type is not ParameterType.UUID:
        return None
    stem = name.removesuffix("id")
    return next((kind for noun, kind in _NOUNS if noun.lower().startswith(stem)), "events")


def plain_call(command: Command, world: FuzzedCloud) -> dict[str, str]:
    """Return a call with the required parameters, each of which is what it should be."""
    call: dict[str, str] = {}
    for parameter in command.all_parameters:
        if parameter.required:
            call |= _plain_value(command, parameter, world)
    return call


def calls(command: Command, world: FuzzedCloud) -> list[Call]:
    """Return calls of a command, each of which differs from the plain one in one parameter, and that one."""
    plain = plain_call(command, world)
    found: list[Call] = [plain]
    for parameter in command.all_parameters:
        others = {name: value for name, value in plain.items() if not _belongs(name, parameter)}
        found.append(others)
        found += [others | given for given in _values(command, parameter, world)]
    return found


def sample(command: Command, world: FuzzedCloud, chance: random.Random) -> Iterator[Call]:
    """Yield calls in which each parameter is absent, empty, huge, of another type, and something else."""
    plain = plain_call(command, world)
    for parameter in command.all_parameters:
        others = {name: value for name, value in plain.items() if not _belongs(name, parameter)}
        yield others
        large = _TOO_LARGE.get(parameter.type, ("x" * 5000,))
        for value in ("", *large, *_OF_ANOTHER_TYPE.get(parameter.type, ("{}",))):
            yield others | {parameter.name: value}
            if parameter.type in _MAPS:
                yield others | {f"{parameter.name}[0].key": value, f"{parameter.name}[0].value": value}
        yield others | chance.choice(list(_values(command, parameter, world)))
    yield plain


def calls_with_foreign_objects(command: Command, world: FuzzedCloud) -> list[Call]:
    """Return those calls that name an object of the stranger's."""
    foreign = frozenset(world.foreign.values())
    return [call for call in calls(command, world) if not foreign.isdisjoint(call.values())]


def mixed_call(command: Command, world: FuzzedCloud, chance: random.Random) -> Call:
    """Return a call in which several parameters are what they should not be."""
    call: dict[str, str] = {}
    for parameter in command.all_parameters:
        if chance.random() < (0.8 if parameter.required else 0.3):
            is_plain = parameter.required and chance.random() < 0.6
            values = list(_values(command, parameter, world))
            call |= _plain_value(command, parameter, world) if is_plain else chance.choice(values)
    return call


def _belongs(name: str, parameter: Parameter) -> bool:
    return name == parameter.name or name.startswith(f"{parameter.name}[")


def _plain_value(command: Command, parameter: Parameter, world: FuzzedCloud) -> dict[str, str]:
    name = parameter.name
    kind = kind_of(command, parameter)
    if kind is not None:
        return {name: world.own.get(kind, NOWHERE)}
    if parameter.type is ParameterType.TAGS:
        return {f"{name}[0].key": "fuzzed", f"{name}[0].value": "value"}
    if parameter.choices or parameter.only or parameter.literals:
        return {name: str([*parameter.choices, *parameter.only, *parameter.literals][0])}
    return {name: _OTHERS.get(command.name, {}).get(name) or _PLAIN.get(name, "fuzzed")}


def _values(command: Command, parameter: Parameter, world: FuzzedCloud) -> Iterator[dict[str, str]]:
    """Yield values of a parameter: the wrong ones, each allowed word, and every object, whosever it is."""
    name = parameter.name
    for value in (*WRONG, *parameter.choices, *map(str, parameter.only), *parameter.literals):
        yield {name: value}
    objects = [*world.own.values(), *world.foreign.values()]
    if parameter.type in (ParameterType.UUID, ParameterType.LIST) or kind_of(command, parameter) is not None:
        yield from ({name: uuid} for uuid in objects)
    if parameter.type is ParameterType.LIST:
        yield {name: ",".join(objects)}
    names_an_account = name in ("account", "accounts", "keyword")
    finds_a_user = name == "username" and not command.name.startswith(("create", "update"))
    if names_an_account or finds_a_user:  # a new user can be named as a stranger in another domain is
        yield {name: world.stranger.account.name}
    if parameter.type in _MAPS:
        for entry in _ENTRIES:
            yield from ({f"{name}[0].{entry}": value} for value in WRONG)
        yield {f"{name}[0].key": "a", f"{name}[1].key": "a"}
        yield {f"{name}[{index}].key": str(index) for index in range(150)}


def is_destructive(command: Command) -> bool:
    """Return whether a command takes objects away that later calls name."""
    return command.name.startswith(_DESTRUCTIVE)
