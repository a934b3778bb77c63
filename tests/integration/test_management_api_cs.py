# SPDX-License-Identifier: Apache-2.0
"""The unchanged client `cs` against the API on a real port: GET and POST, jobs and pages."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import requests
from cs import CloudStack, CloudStackApiException
from twisted.internet.threads import deferToThread

from small_cloud import CONSOLE_ORIGIN, SmallCloud
from small_cloud.fixtures import cloud, pristine, url
from small_cloud.rows import ADMIN_PASSWORD, API_KEY, SECRET_KEY
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from template_downloads import downloaded
from template_uploads import receive_uploads, upload_parameters

TIMEOUT_S = 120

__all__ = ["cloud", "pristine", "url"]


def client(url: str, method: str = "get", **more: Any) -> CloudStack:
    options: dict[str, Any] = {
        "key": API_KEY,
        "secret": SECRET_KEY,
        "timeout": TIMEOUT_S,
        "poll_interval": 0.05,
    } | more
    return CloudStack(endpoint=url, method=method, **options)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["get", "post"])
async def test_from_a_url_to_a_console(cloud: SmallCloud, url: str, method: str) -> None:
    """Run both flows of docs/FLOWS.md as a script does."""
    cloud.ssvm_peer.answers |= {
        storage.TEMPLATE_DOWNLOAD: downloaded,
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    api = client(url, method)

    def register() -> dict[str, Any]:
        zone = api.listZones()["zone"][0]["id"]
        found: dict[str, Any] = api.registerTemplate(
            name="a ~tiny* & späte",
            displaytext="one + one = two",
            url="https://images.example.test/tiny.qcow2?a=b&c=d",
            format="QCOW2",
            hypervisor="KVM",
            zoneid=zone,
            checksum="{SHA-256}" + "0" * 64,
        )["template"][0]
        return found

    registered = await deferToThread(register)
    assert registered["name"] == "a ~tiny* & späte"
    await cloud.dispatch.reconcile()

    def use() -> dict[str, Any]:
        template = api.listTemplates(templatefilter="self", id=registered["id"])["template"][0]
        assert (template["isready"], template["status"]) == (True, "Download Complete")
        offering = api.listServiceOfferings()["serviceoffering"][0]["id"]
        vm = api.deployVirtualMachine(
            zoneid=template["zoneid"],
            templateid=template["id"],
            serviceofferingid=offering,
            name="one",
            fetch_result=True,
        )["virtualmachine"]
        assert vm["state"] == "Running"
        console = api.createConsoleEndpoint(virtualmachineid=vm["id"])["consoleendpoint"]
        assert console["success"]
        assert console["url"].startswith(f"{CONSOLE_ORIGIN}/console?cmd=auth&token=")
        stopped = api.stopVirtualMachine(id=vm["id"], forced=True, fetch_result=True)
        assert stopped["virtualmachine"]["state"] == "Stopped"
        api.destroyVirtualMachine(id=vm["id"], expunge=True, fetch_result=True)
        assert api.listVirtualMachines(listall=True) == {}
        found: dict[str, Any] = api.deleteTemplate(id=template["id"], fetch_result=True)
        return found

    assert await deferToThread(use) == {"success": True}


@pytest_twisted.ensureDeferred
async def test_all_pages_of_a_list_are_fetched(cloud: SmallCloud, url: str) -> None:
    for number in range(7):
        cloud.add_template(name=f"t{number}")
    api = client(url)
    rows = await deferToThread(api.listTemplates, templatefilter="all", fetch_list=True, pagesize=3)
    assert [row["name"] for row in rows] == [f"t{number}" for number in range(7)]
    assert await deferToThread(api.listIsos, isofilter="all", fetch_list=True) == []


@pytest_twisted.ensureDeferred
async def test_errors_come_as_the_clients_own_exception(cloud: SmallCloud, url: str) -> None:
    def codes() -> list[int]:
        found = []
        for api, command, parameters in [
            (client(url), "listTemplates", {}),
            (client(url), "noSuchCommand", {}),
            (client(url, secret="wrong"), "listZones", {}),
            (client(url, key="wrong"), "listZones", {}),
            (client(url, expiration=0), "listZones", {}),
            (client(url), "listZones", {"page": -1}),
        ]:
            with pytest.raises(CloudStackApiException) as raised:
                getattr(api, command)(**parameters)
            assert raised.value.error["errorcode"] == raised.value.response.status_code
            found.append(raised.value.error["errorcode"])
        return found

    assert await deferToThread(codes) == [431, 432, 401, 401, 401, 431]


@pytest_twisted.ensureDeferred
async def test_a_job_that_failed_raises_with_its_text(cloud: SmallCloud, url: str) -> None:
    template, _ = cloud.add_template()
    cloud.primary.fails_with = OSError("no room")
    api = client(url)

    def deploy() -> dict[str, Any]:
        offering = api.listServiceOfferings()["serviceoffering"][0]["id"]
        with pytest.raises(CloudStackApiException) as raised:
            api.deployVirtualMachine(
                zoneid=cloud.zone.uuid,
                templateid=template.uuid,
                serviceofferingid=offering,
                fetch_result=True,
            )
        return dict(raised.value.error)

    assert (await deferToThread(deploy))["errorcode"] == 530


@pytest_twisted.ensureDeferred
async def test_a_browsers_session_over_a_real_connection(url: str) -> None:
    def browse() -> list[int]:
        session = requests.Session()
        form = {"command": "login", "username": "admin", "password": ADMIN_PASSWORD, "response": "json"}
        answer = session.post(url, data=form, timeout=TIMEOUT_S)
        key = answer.json()["loginresponse"]["sessionkey"]
        statuses = [answer.status_code]
        for command in ("listZones", "listSystemVms", "logout", "listZones"):
            data = {"command": command, "sessionkey": key, "response": "json"}
            statuses.append(session.post(url, data=data, timeout=TIMEOUT_S).status_code)
        return statuses

    assert await deferToThread(browse) == [200, 200, 200, 200, 401]


@pytest_twisted.ensureDeferred
async def test_parameters_of_an_upload_and_their_errors(cloud: SmallCloud, url: str) -> None:
    receive_uploads(cloud)
    api = client(url)

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = api.getUploadParamsForTemplate(**upload_parameters(cloud))["getuploadparams"]
        with pytest.raises(CloudStackApiException) as refused:
            api.getUploadParamsForIso(**upload_parameters(cloud, "Iso", format="RAW"))
        assert refused.value.error["errorcode"] == 431
        volume = api.getUploadParamsForVolume(name="v", format="RAW", zoneid=cloud.zone.uuid)
        assert sorted(volume["getuploadparams"]) == sorted(found)
        return found

    params = await deferToThread(ask)
    assert sorted(params) == ["expires", "id", "metadata", "postURL", "signature"]

    def state() -> str:
        [row] = api.listTemplates(templatefilter="self", id=params["id"])["template"]
        return str(row["status"])

    assert await deferToThread(state) == "NotUploaded"
