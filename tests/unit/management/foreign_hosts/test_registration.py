# SPDX-License-Identifier: Apache-2.0
"""addHost, updateHost and deleteHost: what is checked first, what is kept, and who can read it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import trustme

from foreign_host_peers import HOST_ADDRESS, PASSWORD, XapiPeer
from settling import settled
from small_cloud import SmallCloud
from small_cloud.foreign_hosts import FINGERPRINT
from systemvm.management.foreign_hosts.definition import read_tls, read_url
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError, HostDefinitionError
from systemvm.management.state import events, foreign_hosts, zones
from systemvm.management.state.zones import Host
from systemvm.service.errors import SystemVmError
from systemvm.wire import console

CA_PEM = trustme.CA().cert_pem.bytes().decode()


def hosts(cloud: SmallCloud) -> list[Host]:
    return [host for host in cloud.database.run_now(zones.list_hosts) if not host.is_driven]


async def refused(cloud: SmallCloud, command: str, **parameters: Any) -> SystemVmError:
    with pytest.raises(SystemVmError) as found:
        await cloud.call(command, **parameters)
    assert found.value.hint
    assert PASSWORD not in f"{found.value!r} {found.value} {found.value.hint}"
    return found.value


@pytest_twisted.ensureDeferred
async def test_a_host_is_registered_with_its_vms(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    proxy = cloud.agents.peer(cloud.cpvm.instance_name)
    assert proxy is not None
    answer = await cloud.call("addHost", name="xen-a", **definition)
    [host] = answer["host"]
    assert (host["name"], host["state"], host["hypervisor"]) == ("xen-a", "Up", "XenServer")
    assert (host["url"], host["fingerprint"]) == ("https://xen-1", FINGERPRINT)
    assert (host["consoleaddresses"], host["version"]) == ([HOST_ADDRESS], "XCP-ng 8.3.0")
    assert host["virtualmachines"] == 1
    [vm] = (await cloud.call("listVirtualMachines", hypervisor="XenServer"))["virtualmachine"]
    assert (vm["name"], vm["displayname"], vm["state"]) == ("web-1", "web-1", "Running")
    assert (vm["powerstate"], vm["hostname"], vm["cpunumber"]) == ("PowerOn", "xen-a", 2)
    await settled(cloud.database)
    assert proxy.params_of(console.CONSOLE_HOSTS)[-1].addresses == [HOST_ADDRESS]


@pytest_twisted.ensureDeferred
async def test_a_host_is_not_registered_before_its_certificate_is_verified(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    del definition["fingerprint"]
    error = await refused(cloud, "addHost", **definition)
    assert FINGERPRINT in error.message, "it is shown, so that an operator can compare it"
    error = await refused(cloud, "addHost", **(definition | {"hypervisor": "VMware"}))
    assert "cacertificate" in error.message
    assert (xapi.calls, hosts(cloud)) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_host_that_refuses_is_not_registered(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    error = await refused(cloud, "addHost", **(definition | {"password": "other"}))
    assert isinstance(error, ForeignHostError)
    assert error.fault is ApiFault.LOGIN_REFUSED
    error = await refused(cloud, "addHost", **(definition | {"url": "https://xen-2"}))
    assert isinstance(error, ForeignHostError)
    assert error.fault is ApiFault.UNREACHABLE
    assert hosts(cloud) == []


@pytest_twisted.ensureDeferred
async def test_a_host_is_registered_once(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    await cloud.call("addHost", **definition)
    of_this_host = {"url": "https://xen-2", "name": cloud.host.name}
    for changed, parameter in (
        ({"name": "another"}, "url"),
        ({"url": "http://xen-1:80"}, "url"),
        (of_this_host, "name"),
    ):
        error = await refused(cloud, "addHost", **(definition | changed))
        assert isinstance(error, HostDefinitionError)
        assert error.parameter == parameter
    assert len(hosts(cloud)) == 1


@pytest_twisted.ensureDeferred
async def test_a_host_joins_no_cluster_of_another_hypervisor(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    [pod] = (await cloud.call("listPods"))["pod"]
    [cluster] = (await cloud.call("listClusters"))["cluster"]
    assert "clusterid" in (await refused(cloud, "addHost", **definition, clusterid=cluster["id"])).message
    await cloud.call("addHost", podid=pod["id"], **definition)


@pytest_twisted.ensureDeferred
async def test_the_password_is_sealed_and_deleted_with_the_host(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    answer = await cloud.call("addHost", **definition)
    [host] = hosts(cloud)
    row = cloud.database.run_now(foreign_hosts.of_host, host.id)
    assert PASSWORD.encode() not in row.sealed_password
    assert cloud.seal.open(row.sealed_password) == PASSWORD
    listed = await cloud.call("listHosts")
    told = [event.description for event in cloud.database.run_now(events.rows.all)]
    assert PASSWORD not in f"{answer}{listed}{told}{row!r}"
    await cloud.call("deleteHost", id=host.uuid)
    assert cloud.database.run_now(foreign_hosts.rows.by_id, row.id).sealed_password == b""
    assert await cloud.call("listVirtualMachines") == {}
    proxy = cloud.agents.peer(cloud.cpvm.instance_name)
    assert proxy is not None
    await settled(cloud.database)
    assert proxy.params_of(console.CONSOLE_HOSTS)[-1].addresses == []


@pytest_twisted.ensureDeferred
async def test_a_changed_access_must_work_and_another_host_gets_no_old_password(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    await cloud.call("addHost", **definition)
    [host] = hosts(cloud)
    assert "password" in (await refused(cloud, "updateHost", id=host.uuid, url="https://xen-2")).message
    await refused(cloud, "updateHost", id=host.uuid, password="wrong")
    assert (await cloud.hosts.refresh(host.id)).state == "Up", "the old access is kept"
    cloud.host_peers["xen-2"] = xapi
    changed = {"url": "https://xen-2", "username": definition["username"], "password": PASSWORD}
    answer = await cloud.call("updateHost", id=host.uuid, name="xen-b", cacertificate=CA_PEM, **changed)
    assert (answer["host"]["name"], answer["host"]["url"]) == ("xen-b", "https://xen-2")
    assert "fingerprint" not in answer["host"]
    await refused(cloud, "updateHost", id=host.uuid, name=cloud.host.name)


@pytest_twisted.ensureDeferred
async def test_the_host_of_a_daemon_is_not_changed_by_these_commands(cloud: SmallCloud) -> None:
    for command in ("updateHost", "deleteHost", "reconnectHost"):
        await refused(cloud, command, id=cloud.host.uuid)


@pytest_twisted.ensureDeferred
async def test_a_renamed_daemon_takes_no_registered_host_for_its_own(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    await cloud.call("addHost", **definition)
    row = cloud.database.run_now(
        zones.put_host, "new-name", zone_id=cloud.zone.id, arch="amd64", address="10.11.0.1", version="1"
    )
    assert row.id == cloud.host.id


@pytest_twisted.ensureDeferred
async def test_vms_of_such_a_host_are_only_shown(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    await cloud.call("addHost", **definition)
    [vm] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    for command in (
        "startVirtualMachine",
        "stopVirtualMachine",
        "rebootVirtualMachine",
        "destroyVirtualMachine",
    ):
        job = await cloud.job(command, id=vm["id"])
        assert job.result["errorcode"] == 431
        assert "does not control" in job.result["errortext"]
    await refused(cloud, "createConsoleScreenshot", id=vm["id"])
    assert (await cloud.call("listVirtualMachines"))["virtualmachine"][0]["state"] == "Running"
    pools = (await cloud.call("listStoragePools"))["storagepool"]
    assert [pool["hypervisor"] for pool in pools] == ["KVM"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("xen-1", "https://xen-1"),
        ("http://10.11.0.31", "https://10.11.0.31"),
        ("https://xen-1:8443/", "https://xen-1:8443"),
        ("https://[fd00::1]:443", "https://[fd00::1]"),
    ],
)
def test_a_url_is_read_as_cloudstacks_clients_write_it(text: str, url: str) -> None:
    assert read_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "ftp://xen-1", "https://", "https://a:b@xen-1", "https://x/path", "https://x:99999", "https://[x"],
)
def test_what_is_no_url_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(HostDefinitionError) as found:
        read_url(text)
    assert "a:b" not in f"{found.value}"


@pytest.mark.parametrize(
    ("ca_pem", "fingerprint"),
    [("no certificate", None), (None, "AB:CD"), (None, "x" * 64), (CA_PEM, FINGERPRINT)],
)
def test_what_verifies_nothing_is_refused(ca_pem: str | None, fingerprint: str | None) -> None:
    with pytest.raises(HostDefinitionError):
        read_tls(ca_pem, fingerprint)
