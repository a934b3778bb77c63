# SPDX-License-Identifier: Apache-2.0
"""listApis for CloudStack's Marvin.

Its code generator (tools/marvin/marvin/codegenerator.py) makes a class of each command, and its
test library reads parameters of these classes without setting them first.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api import envelope

#: Parameters and response keys that CloudStack 4.22's smoke tests and Marvin's base.py use.
USED_BY_MARVIN: dict[str, tuple[set[str], set[str]]] = {
    "deployVirtualMachine": (
        {
            "account",
            "domainid",
            "networkids",
            "zoneid",
            "templateid",
            "serviceofferingid",
            "startvm",
            "details",
        },
        {"id", "name", "state", "account", "domainid", "zoneid", "nic", "hypervisor", "passwordenabled"},
    ),
    "registerTemplate": (
        {
            "account",
            "domainid",
            "checksum",
            "directdownload",
            "deployasis",
            "isdynamicallyscalable",
            "zoneid",
        },
        {"id", "name", "isready", "status", "ostypeid", "ostypename", "isdynamicallyscalable", "checksum"},
    ),
    "registerIso": (
        {"account", "domainid", "checksum", "bootable", "ispublic", "isfeatured", "isextractable", "zoneid"},
        {"id", "name", "isready", "status", "ostypeid", "bootable"},
    ),
    "listTemplates": (
        {"id", "templatefilter", "zoneid", "account", "domainid", "listall", "keyword", "page", "pagesize"},
        {"id", "isready", "status", "downloaddetails", "hypervisor", "templatetype", "size", "zonename"},
    ),
    "listOsTypes": ({"description", "id", "oscategoryid"}, {"id", "description"}),
    "listVirtualMachines": ({"id", "account", "domainid", "listall", "hostid"}, {"id", "state", "hostid"}),
    "listSystemVms": (
        {"id", "name", "zoneid", "hostid", "systemvmtype", "state"},
        {"name", "state", "agentstate", "linklocalip", "privateip", "publicip", "gateway", "dns1", "hostid"},
    ),
    "listVolumes": ({"virtualmachineid", "type", "id", "listall"}, {"id", "storageid", "state"}),
    "listImageStores": ({"id", "readonly"}, {"id", "readonly", "zoneid", "disksizeused", "disksizetotal"}),
    "listEvents": ({"startdate", "enddate", "type", "account", "domainid"}, {"id", "type", "created"}),
}


async def discovered(cloud: SmallCloud) -> list[dict[str, Any]]:
    table = cloud.table.find("listApis")
    document = envelope.answer(table, await table.run(cloud.admin, {}, "192.0.2.1", "request-1"))
    text = envelope.write(document, "json").decode()
    assert "\n" not in text, "Marvin parses one line"
    body = json.loads(text)["listapisresponse"]
    assert body["count"] == len(body["api"])
    found: list[dict[str, Any]] = body["api"]
    return found


def class_source(api: dict[str, Any]) -> str:
    """Return the class that the generator writes: descriptions in triple quotes, names as attributes."""
    lines = [f'"""{api["description"]}"""', f"class {api['name']}Cmd:", "    def __init__(self):"]
    lines.append(f'        self.isAsync = "{str(api["isasync"]).lower()}"')
    for param in api["params"]:
        value = "[]" if param["type"] in ("list", "map") else "None"
        lines += [f'        """{param["description"]}"""', f"        self.{param['name']} = {value}"]
        lines.append(f"        self.typeInfo['{param['name']}'] = '{param['type']}'")
    required = [param["name"] for param in api["params"] if str(param["required"]).lower() == "true"]
    lines.append(f"        self.required = {required!r}")
    lines += [f"class {api['name']}Response:", "    def __init__(self):"]
    for key in api["response"]:
        value = "[]" if key["type"] in ("list", "map", "set") and key.get("response") else "None"
        lines += [f'        """{key["description"]}"""', f"        self.{key['name']} = {value}"]
        for inner in key.get("response", []):
            lines += [f'        """{inner["description"]}"""', f"        self._{inner['name']} = None"]
    return "\n".join(lines)


@pytest_twisted.ensureDeferred
async def test_client_can_be_generated_from_every_command(cloud: SmallCloud) -> None:
    apis = await discovered(cloud)
    assert len(apis) == len(list(cloud.table))
    for api in apis:
        assert {"name", "description", "isasync", "params", "response"} <= set(api)
        compile(class_source(api), api["name"], "exec")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", sorted(USED_BY_MARVIN))
async def test_keys_that_marvin_reads_are_declared(cloud: SmallCloud, command: str) -> None:
    parameters, keys = USED_BY_MARVIN[command]
    [api] = [one for one in await discovered(cloud) if one["name"] == command]
    assert parameters <= {param["name"] for param in api["params"]}
    assert keys <= {key["name"] for key in api["response"]}


@pytest_twisted.ensureDeferred
async def test_parameter_types_are_those_of_cloudstack(cloud: SmallCloud) -> None:
    """Marvin joins lists with commas and numbers the entries of maps by these types."""
    known = {"string", "uuid", "boolean", "integer", "long", "date", "list", "map"}
    apis = await discovered(cloud)
    assert {param["type"] for api in apis for param in api["params"]} <= known
    [deploy] = [one for one in apis if one["name"] == "deployVirtualMachine"]
    types = {param["name"]: param["type"] for param in deploy["params"]}
    assert (types["networkids"], types["details"], types["zoneid"]) == ("list", "map", "uuid")
