# SPDX-License-Identifier: Apache-2.0
"""The requests of CloudMonkey and of Terraform's provider, in their order, against the API on a real port."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import requests
from twisted.internet.threads import deferToThread

from integration.replayed_clients import TIMEOUT_S, ClientError, CloudMonkey, Terraform
from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine, url
from small_cloud.rows import ADMIN_PASSWORD
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from template_downloads import downloaded

__all__ = ["cloud", "pristine", "url"]


@pytest_twisted.ensureDeferred
async def test_cloudmonkey_syncs_and_completes_every_parameter(cloud: SmallCloud, url: str) -> None:
    """`cmk sync` lists the APIs, and a completion what a parameter can be (cli/completer.go)."""
    cmk = CloudMonkey(url)

    def use() -> None:
        apis = cmk.call("listApis", listall="true")
        assert apis["count"] == len(apis["api"])
        for api in apis["api"]:
            assert isinstance(api["isasync"], bool)
            assert {"name", "description", "params", "response"} <= set(api)
            assert all({"name", "type", "required", "description"} <= set(one) for one in api["params"])
        lists = [
            api
            for api in apis["api"]
            if api["name"].startswith("list") and not any(one["required"] for one in api["params"])
        ]
        assert len(lists) > 40
        for api in lists:
            found = cmk.call(api["name"], listall="true")
            is_list = api["name"] not in ("listCaCertificate", "listCapabilities")
            assert found == {} or not is_list or found["count"] > 0, api["name"]
        assert cmk.call("listTemplates", listall="true", templatefilter="executable") == {}
        assert cmk.call("listHosts", listall="true", type="Routing")["count"] == 1

    await deferToThread(use)


@pytest_twisted.ensureDeferred
async def test_cloudmonkey_stops_a_system_vm_and_shows_errors(cloud: SmallCloud, url: str) -> None:
    cmk = CloudMonkey(url)

    def use() -> None:
        [vm] = cmk.call("listSystemVms", systemvmtype="consoleproxy")["systemvm"]
        assert cmk.wait("stopSystemVm", id=vm["id"])["systemvm"]["id"] == vm["id"]
        with pytest.raises(ClientError) as refused:
            cmk.call("listTemplates")
        assert refused.value.code == 431

    await deferToThread(use)


@pytest_twisted.ensureDeferred
async def test_cloudmonkey_logs_in_with_a_password(url: str) -> None:
    """It takes the session key from the cookie of that name, and sends both with each GET."""

    def use() -> dict[str, Any]:
        session = requests.Session()
        form = {"command": "login", "username": "admin", "password": ADMIN_PASSWORD, "domain": "/"}
        session.post(url, data=form | {"response": "json"}, timeout=TIMEOUT_S).raise_for_status()
        found = {cookie.name: cookie for cookie in session.cookies}
        assert found["sessionkey"].has_nonstandard_attr("HttpOnly")
        # both cookies come with each request of a browser, whoever's page makes it: they are no proof
        unnamed = session.get(url, params={"command": "listZones", "response": "json"}, timeout=TIMEOUT_S)
        assert unnamed.status_code == 401
        query = {"command": "listZones", "response": "json", "sessionkey": session.cookies["sessionkey"]}
        answer: dict[str, Any] = session.get(url, params=query, timeout=TIMEOUT_S).json()
        return answer

    assert (await deferToThread(use))["listzonesresponse"]["count"] == 1


@pytest_twisted.ensureDeferred
async def test_terraform_applies_a_template_a_machine_and_a_disk(cloud: SmallCloud, url: str) -> None:
    """Create, read and delete cloudstack_template, cloudstack_instance and cloudstack_disk."""
    cloud.ssvm_peer.answers |= {
        storage.TEMPLATE_DOWNLOAD: downloaded,
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    api = Terraform(url)

    def register() -> dict[str, Any]:
        [os_type] = api.get("listOsTypes", description="Debian GNU/Linux 12 (64-bit)")["ostype"]
        [zone] = api.get("listZones", name=cloud.zone.name)["zone"]
        [made] = api.post(
            "registerTemplate",
            displaytext="tiny", format="QCOW2", hypervisor="KVM", name="tiny",
            url="https://images.example.test/tiny.qcow2", ostypeid=os_type["id"], zoneid=zone["id"],
        )["template"]  # fmt: skip
        return dict(made)

    registered = await deferToThread(register)
    await cloud.dispatch.reconcile()

    def apply() -> None:
        query = {"id": registered["id"], "templatefilter": "executable", "showunique": "true"}
        [template] = api.get("listTemplates", **query)["template"]
        assert (template["isready"], template["zonename"]) == (True, cloud.zone.name)

        [zone] = api.get("listZones", name=cloud.zone.name)["zone"]
        [offering] = api.get("listServiceOfferings", name="tiny", zoneid=zone["id"])["serviceoffering"]
        [zone] = api.get("listZones", id=zone["id"])["zone"]
        assert zone["networktype"] == "Advanced"  # it then gives the id of a network
        [template] = api.get(
            "listTemplates", name="tiny", templatefilter="executable", zoneid=zone["id"]
        )["template"]  # fmt: skip
        [network] = api.get("listNetworks")["network"]
        [network] = api.get("listNetworks", id=network["id"], projectid="-1")["network"]
        vm = api.wait(
            "deployVirtualMachine",
            serviceofferingid=offering["id"], templateid=template["id"], zoneid=zone["id"],
            startvm="true", name="web1", displayname="web1", networkids=network["id"],
        )["virtualmachine"]  # fmt: skip
        assert vm["nic"][0]["networkid"] == network["id"]
        of_vm = {"resourceids": vm["id"], "resourcetype": "userVm"}
        tags = {"tags[0].key": "env", "tags[0].value": "test", "tags[1].key": "role", "tags[1].value": "web"}
        assert api.wait("createTags", post=False, **of_vm, **tags)["success"]
        [read] = api.get("listVirtualMachines", id=vm["id"])["virtualmachine"]
        assert (read["name"], read["zonename"]) == ("web1", zone["name"])
        assert (read["serviceofferingname"], read["templatename"]) == ("tiny", "tiny")
        assert {tag["key"]: tag["value"] for tag in read["tags"]} == {"env": "test", "role": "web"}
        # a second run with another value of one tag
        old: dict[str, Any] = {"tags[0].key": "env", "tags[0].value": "test"}
        api.wait("deleteTags", **of_vm, **old)
        api.wait("createTags", post=False, **of_vm, **{"tags[0].key": "env", "tags[0].value": "live"})
        [read] = api.get("listVirtualMachines", id=vm["id"])["virtualmachine"]
        assert {tag["key"]: tag["value"] for tag in read["tags"]} == {"env": "live", "role": "web"}
        [root] = api.get("listVolumes", type="ROOT", virtualmachineid=vm["id"])["volume"]
        assert root["size"] > 0

        [disk_offering] = api.get("listDiskOfferings", name="Custom")["diskoffering"]
        disk = api.wait(
            "createVolume", post=False, name="data", diskofferingid=disk_offering["id"], size="1",
            zoneid=zone["id"],
        )["volume"]  # fmt: skip
        api.wait("attachVolume", id=disk["id"], virtualmachineid=vm["id"])
        [read] = api.get("listVolumes", id=disk["id"])["volume"]
        assert (read["virtualmachineid"], read["size"]) == (vm["id"], 1 << 30)

        api.wait("detachVolume", id=disk["id"])
        assert api.get("deleteVolume", id=disk["id"])["success"]
        api.wait("destroyVirtualMachine", id=vm["id"], expunge="true")
        assert api.get("listVirtualMachines", id=vm["id"]) == {}
        assert api.get("listVirtualMachines", id=vm["id"], projectid="-1") == {}
        assert api.wait("deleteTemplate", id=template["id"])["success"]

    await deferToThread(apply)
