# SPDX-License-Identifier: Apache-2.0
"""Parameters of CloudStack's clients are applied, or rejected by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management import os_types
from systemvm.management.api.errors import ApiError
from systemvm.management.api.parameters import ADDED_BY_CLIENTS
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.state import accounts, events, schema, templates, zones
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.status import AccountType
from systemvm.wire.storage import DownloadState, ImageFormat

GIB = 1 << 30
NOWHERE = "00000000-0000-4000-8000-000000000000"


def registration(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "url": "https://images.example.test/tiny.qcow2",
        "format": "QCOW2",
        "hypervisor": "KVM",
        "zoneid": cloud.zone.uuid,
    } | more


def iso(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    return {"name": "cd", "url": "https://images.example.test/cd.iso", "zoneid": cloud.zone.uuid} | more


async def deployment(cloud: SmallCloud, **columns: Any) -> dict[str, str]:
    template, _ = cloud.add_template(**columns)
    offerings = await cloud.call("listServiceOfferings", name="small")
    return {
        "zoneid": cloud.zone.uuid,
        "templateid": template.uuid,
        "serviceofferingid": offerings["serviceoffering"][0]["id"],
    }


async def refusal(cloud: SmallCloud, command: str, as_user: Any = None, /, **parameters: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await cloud.call(command, as_user, **parameters)
    return refused.value


def second_zone(cloud: SmallCloud) -> zones.Zone:
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    cloud.database.run_now(
        zones.put_store, "other", zone_id=zone.id, url="nfs://10.12.0.3/x", host_path=None, nfs_version="4.2"
    )
    return zone


def set_virtual_size(cloud: SmallCloud, template_uuid: str, size_bytes: int) -> None:
    template = cloud.database.run_now(templates.by_uuid, template_uuid)
    ref = present(cloud.database.run_now(templates.store_ref_of, template.id))
    cloud.database.run_now(templates.update_store_ref, ref.id, virtual_size_bytes=size_bytes)


# --- names and values


@pytest_twisted.ensureDeferred
async def test_no_command_ignores_a_parameter(cloud: SmallCloud) -> None:
    for command in cloud.table:
        if command.name in ("login", "logout"):
            continue
        needed = {one.name: one.choices[0] if one.choices else NOWHERE for one in command.parameters}
        error = await refusal(cloud, command.name, **needed, nosuchparameter="1")
        assert "nosuchparameter" in error.message, command.name


def test_no_command_declares_what_every_client_adds(cloud: SmallCloud) -> None:
    for command in cloud.table:
        names = [parameter.name.lower() for parameter in command.all_parameters]
        assert len(names) == len(set(names)), command.name
        assert not ADDED_BY_CLIENTS & set(names), command.name


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("directdownload", "true"),
        ("passwordenabled", "true"),
        ("isdynamicallyscalable", "true"),
        ("bits", "32"),
        ("sshkeyenabled", "true"),
        ("deployasis", "true"),
        ("templatetype", "ROUTING"),
        ("templatetag", "ssd"),
        ("projectid", NOWHERE),
        ("details[0].keyboard", "de"),
        ("zoneids", NOWHERE),
    ],
)
async def test_unsupported_parameters_of_a_registration_are_rejected_by_name(
    cloud: SmallCloud, name: str, value: str
) -> None:
    error = await refusal(cloud, "registerTemplate", **registration(cloud, **{name: value}))
    assert (error.code, name in error.message) == (431, True)
    assert await cloud.call("listTemplates", templatefilter="all") == {}


@pytest_twisted.ensureDeferred
async def test_supported_values_are_accepted(cloud: SmallCloud) -> None:
    """Ansible, Terraform and go-cloudstack send their defaults."""
    defaults = {
        "bits": "64",
        "directdownload": "false",
        "isdynamicallyscalable": "false",
        "isfeatured": "false",
        "passwordenabled": "false",
        "requireshvm": "true",
        "sshkeyenabled": "false",
        "templatetype": "user",
    }
    [row] = (await cloud.call("registerTemplate", **registration(cloud, **defaults)))["template"]
    assert (row["bits"], row["sshkeyenabled"], row["isdynamicallyscalable"]) == (64, False, False)


@pytest_twisted.ensureDeferred
async def test_user_cannot_feature_a_template(cloud: SmallCloud) -> None:
    featured = registration(cloud, isfeatured="true")
    assert "isfeatured" in (await refusal(cloud, "registerTemplate", cloud.user, **featured)).message
    [row] = (await cloud.call("registerTemplate", **featured))["template"]
    assert row["isfeatured"]


# --- owners


def other_account(cloud: SmallCloud) -> tuple[Domain, Account]:
    def make(connection: Any) -> tuple[Domain, Account]:
        domain = accounts.create_domain(connection, "sales", "/sales", cloud.admin.domain.id)
        return domain, accounts.create_account(connection, "sellers", AccountType.USER, domain.id)

    return cloud.database.run_now(make)


@pytest_twisted.ensureDeferred
async def test_administrator_creates_objects_for_another_account(cloud: SmallCloud) -> None:
    domain, account = other_account(cloud)
    owner = {"account": account.name, "domainid": domain.uuid}
    [row] = (await cloud.call("registerTemplate", **registration(cloud, **owner)))["template"]
    assert (row["account"], row["domain"]) == ("sellers", "sales")
    [row] = (await cloud.call("registerIso", **iso(cloud, **owner)))["iso"]
    assert row["account"] == "sellers"
    job = await cloud.job("deployVirtualMachine", **(await deployment(cloud) | owner))
    assert job.result["virtualmachine"]["account"] == "sellers"
    assert await cloud.call("listVirtualMachines") == {}
    for scope in (owner, {"domainid": domain.uuid}, {"listall": "true"}):
        assert (await cloud.call("listVirtualMachines", **scope))["count"] == 1, scope
        assert (await cloud.call("listVolumes", **scope))["count"] == 1, scope
    assert (await cloud.call("listTemplates", templatefilter="self", **owner))["count"] == 1
    assert await cloud.call("listVirtualMachines", domainid=cloud.admin.domain.uuid) == {}
    root = {"domainid": cloud.admin.domain.uuid, "isrecursive": "true"}
    assert (await cloud.call("listVirtualMachines", **root))["count"] == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("owner", "code"),
    [
        ({"account": "users"}, 431),
        ({"account": "nobody", "domainid": None}, 431),
        ({"account": "users", "domainid": NOWHERE}, 431),
    ],
)
async def test_unknown_owner_is_rejected(cloud: SmallCloud, owner: dict[str, str | None], code: int) -> None:
    owner = {name: value or cloud.admin.domain.uuid for name, value in owner.items()}
    with pytest.raises((ApiError, LookupError)):
        await cloud.call("registerTemplate", **registration(cloud, **owner))
    assert await cloud.call("listTemplates", templatefilter="all") == {}


@pytest_twisted.ensureDeferred
async def test_user_has_access_to_the_own_account_only(cloud: SmallCloud) -> None:
    domain = cloud.user.domain.uuid
    own = registration(cloud, account="users", domainid=domain)
    assert (await cloud.call("registerTemplate", cloud.user, **own))["template"][0]["account"] == "users"
    admins = {"account": "admin", "domainid": domain}
    assert (await refusal(cloud, "registerTemplate", cloud.user, **registration(cloud, **admins))).code == 401
    for command in ("listVirtualMachines", "listVolumes", "listEvents", "listAsyncJobs", "listNetworks"):
        assert (await refusal(cloud, command, cloud.user, **admins)).code == 401, command
    await cloud.job("deployVirtualMachine", **await deployment(cloud))
    for scope in ({"listall": "true"}, {"domainid": domain}, {"domainid": domain, "isrecursive": "true"}):
        assert await cloud.call("listVirtualMachines", cloud.user, **scope) == {}
        assert await cloud.call("listAsyncJobs", cloud.user, **scope) == {}
        rows = (await cloud.call("listEvents", cloud.user, **scope))["event"]
        assert {row["account"] for row in rows} == {"users"}


# --- machines


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["rootdisksize", "details[0].rootdisksize", "details[3].RootDiskSize"])
async def test_disk_is_never_smaller_than_its_template(cloud: SmallCloud, name: str) -> None:
    values = await deployment(cloud)
    set_virtual_size(cloud, values["templateid"], 3 * GIB)
    with pytest.raises(Exception, match=r"\(1 GiB\) is smaller than template size \(3.00 GiB\)"):
        await cloud.call("deployVirtualMachine", **values, **{name: "1"})
    assert await cloud.call("listVirtualMachines", listall="true") == {}
    await cloud.job("deployVirtualMachine", **values, **{name: "4"})
    [(_, _, size_bytes)] = cloud.primary.clones.values()
    assert size_bytes == 4 * GIB


@pytest_twisted.ensureDeferred
async def test_details_precede_the_parameter_as_in_cloudstack(cloud: SmallCloud) -> None:
    values = await deployment(cloud)
    await cloud.job("deployVirtualMachine", **values, **{"rootdisksize": "2", "details[0].rootdisksize": "5"})
    [(_, _, size_bytes)] = cloud.primary.clones.values()
    assert size_bytes == 5 * GIB


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("diskofferingid", NOWHERE),
        ("size", "2"),
        ("networkids", NOWHERE),
        ("iptonetworklist[0].networkid", NOWHERE),
        ("keypair", "mine"),
        ("keypairs", "mine"),
        ("userdata", "I2Nsb3VkLWNvbmZpZwo="),
        ("userdataid", NOWHERE),
        ("details[0].cpuNumber", "8"),
        ("details[0].rootdisksize", "much"),
        ("rootdisksize", "0"),
        ("hostid", NOWHERE),
        ("ipaddress", "10.13.0.7"),
        ("group", "web"),
        ("boottype", "UEFI"),
        ("displayvm", "false"),
        ("hypervisor", "XenServer"),
        ("projectid", NOWHERE),
    ],
)
async def test_unsupported_parameters_of_a_deployment_are_rejected_by_name(
    cloud: SmallCloud, name: str, value: str
) -> None:
    error = await refusal(cloud, "deployVirtualMachine", **await deployment(cloud), **{name: value})
    reported_name = "network" if name == "networkids" else name.partition("[")[0]
    assert (error.code, reported_name in error.message) == (431, True), error.message
    assert await cloud.call("listVirtualMachines", listall="true") == {}


@pytest_twisted.ensureDeferred
async def test_guest_network_can_be_named(cloud: SmallCloud) -> None:
    network = guest_network_of(cloud.zone).id
    await cloud.job("deployVirtualMachine", **await deployment(cloud), networkids=network)
    assert (await cloud.call("listVirtualMachines", networkid=network))["count"] == 1
    assert await cloud.call("listVirtualMachines", networkid=NOWHERE) == {}


@pytest_twisted.ensureDeferred
async def test_disk_of_a_machine_that_boots_an_iso_has_the_requested_size(cloud: SmallCloud) -> None:
    values = await deployment(cloud, format=ImageFormat.ISO)
    await cloud.job("deployVirtualMachine", **values, size="2")
    [volume] = (await cloud.call("listVolumes"))["volume"]
    assert volume["size"] == 2 * GIB
    error = await refusal(cloud, "deployVirtualMachine", **values, diskofferingid=NOWHERE)
    assert "diskofferingid" in error.message
    error = await refusal(cloud, "deployVirtualMachine", **values, size="2", rootdisksize="3")
    assert "size and rootdisksize" in error.message


# --- templates


@pytest_twisted.ensureDeferred
async def test_cross_zone_template_is_in_every_zone(cloud: SmallCloud) -> None:
    other = second_zone(cloud)
    rows = (await cloud.call("registerTemplate", **registration(cloud, zoneid="-1")))["template"]
    assert [(row["zonename"], row["crossZones"]) for row in rows] == [("zone1", True), ("zone2", True)]
    assert len({row["id"] for row in rows}) == 1
    [row] = (await cloud.call("listTemplates", templatefilter="all", zoneid=other.uuid))["template"]
    assert (row["zoneid"], row["downloaddetails"][0]["datastore"]) == (other.uuid, "other")
    assert (await cloud.call("listTemplates", templatefilter="all", zoneid="-1"))["count"] == 2
    [only_cd, _] = (await cloud.call("registerIso", **iso(cloud, zoneid="-1")))["iso"]
    assert only_cd["crossZones"]
    error = await refusal(cloud, "registerTemplate", cloud.user, **registration(cloud, zoneid="-1"))
    assert "Only admins" in error.message


@pytest_twisted.ensureDeferred
async def test_cross_zone_template_must_be_ready_in_the_machines_zone(cloud: SmallCloud) -> None:
    second_zone(cloud)
    rows = (await cloud.call("registerTemplate", **registration(cloud, zoneid="-1")))["template"]
    values = await deployment(cloud) | {"templateid": rows[0]["id"]}
    template = cloud.database.run_now(templates.by_uuid, rows[0]["id"])
    here = present(cloud.database.run_now(templates.store_ref_of, template.id, cloud.zone.id))
    newest = present(cloud.database.run_now(templates.store_ref_of, template.id))
    assert here.id != newest.id
    cloud.database.run_now(templates.update_store_ref, newest.id, state=DownloadState.DOWNLOADED)
    with pytest.raises(Exception, match="is not ready"):
        await cloud.call("deployVirtualMachine", **values)
    ready: dict[str, Any] = {"state": DownloadState.DOWNLOADED, "install_path": "template/tmpl/2/1/x.qcow2"}
    cloud.database.run_now(templates.update_store_ref, here.id, **ready)
    job = await cloud.job("deployVirtualMachine", **values)
    assert job.result["virtualmachine"]["state"] == "Running"


@pytest_twisted.ensureDeferred
async def test_os_types_have_cloudstacks_names_and_stable_ids(cloud: SmallCloud) -> None:
    [debian] = (await cloud.call("listOsTypes", description="Debian GNU/Linux 12 (64-bit)"))["ostype"]
    assert debian["id"] == "9df0ebe0-2164-5994-954b-adb1683a3af0"
    [category] = (await cloud.call("listOsCategories", name="Debian"))["oscategory"]
    assert debian["oscategoryid"] == category["id"]
    everything = (await cloud.call("listOsTypes"))["ostype"]
    assert len({row["id"] for row in everything}) == len({row["description"] for row in everything})
    # what CloudStack's smoke tests look up
    assert {"CentOS 5.6 (64-bit)", "Other Linux (64-bit)"} <= {row["description"] for row in everything}
    of_debian = registration(cloud, ostypeid=debian["id"])
    [row] = (await cloud.call("registerTemplate", **of_debian))["template"]
    assert (row["ostypeid"], row["ostypename"]) == (debian["id"], debian["description"])
    found = await cloud.call("listTemplates", templatefilter="self", oscategoryid=category["id"])
    assert found["count"] == 1


@pytest_twisted.ensureDeferred
async def test_unknown_os_type_is_rejected(cloud: SmallCloud) -> None:
    error = await refusal(cloud, "registerTemplate", **registration(cloud, ostypeid=NOWHERE))
    assert NOWHERE in error.message
    assert "listOsTypes" in error.hint
    error = await refusal(cloud, "registerIso", **iso(cloud, ostypeid="12"))
    assert "ostypeid" in error.message


@pytest_twisted.ensureDeferred
async def test_every_template_has_an_os_type_and_a_status(cloud: SmallCloud) -> None:
    """Libcloud and Marvin require both keys."""
    cloud.add_template(os_type="typed before types had ids")
    for state in DownloadState:
        cloud.add_template(state=state, name=state.value)
    rows = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert all(row["status"] and row["ostypename"] for row in rows)
    assert rows[0]["ostypename"] == "typed before types had ids"
    assert rows[1]["ostypeid"] == os_types.DEFAULT.id


@pytest_twisted.ensureDeferred
async def test_template_is_found_by_id_before_it_is_ready(cloud: SmallCloud) -> None:
    """Terraform polls with the filter executable until isready is true."""
    template, _ = cloud.add_template(state=DownloadState.DOWNLOAD_IN_PROGRESS)
    assert await cloud.call("listTemplates", templatefilter="executable") == {}
    [row] = (await cloud.call("listTemplates", templatefilter="executable", id=template.uuid))["template"]
    assert (row["isready"], row["status"]) == (False, "0% Downloaded")
    seen = await cloud.call("listTemplates", cloud.user, templatefilter="executable", id=template.uuid)
    assert seen == {}


@pytest_twisted.ensureDeferred
async def test_isready_false_lists_all_as_in_cloudstack(cloud: SmallCloud) -> None:
    """Ansible's iso module sends isready=false and would register a ready ISO again in each run."""
    cloud.add_template(format=ImageFormat.ISO, name="ready")
    cloud.add_template(format=ImageFormat.ISO, name="not yet", state=DownloadState.NOT_DOWNLOADED)
    everything = await cloud.call("listIsos", isofilter="self", isready="false")
    assert {row["name"] for row in everything["iso"]} == {"ready", "not yet"}
    [row] = (await cloud.call("listIsos", isofilter="self", isready="true"))["iso"]
    assert row["name"] == "ready"


@pytest_twisted.ensureDeferred
async def test_template_is_deleted_only_in_its_zone(cloud: SmallCloud) -> None:
    other = second_zone(cloud)
    template, _ = cloud.add_template()
    error = await refusal(cloud, "deleteTemplate", id=template.uuid, zoneid=other.uuid)
    assert "is not in zone zone2" in error.message


# --- events


@pytest_twisted.ensureDeferred
async def test_events_are_filtered_by_date(cloud: SmallCloud) -> None:
    def record(connection: Any, day: int, hour: int) -> None:
        event = events.record(connection, "TEST", f"{day} at {hour}")
        moment = datetime(2026, 3, day, hour, 30, tzinfo=UTC)
        events.rows.update_where(connection, schema.events.c.id == event.id, created=moment)

    for day, hour in ((1, 0), (2, 0), (2, 23), (3, 0)):
        cloud.database.run_now(record, day, hour)

    async def found(**dates: str) -> list[str]:
        answer = await cloud.call("listEvents", type="TEST", **dates)
        return [row["description"] for row in reversed(answer.get("event", []))]

    assert await found(startdate="2027-01-01") == []
    assert await found(startdate="2026-03-02") == ["2 at 0", "2 at 23", "3 at 0"]
    assert await found(enddate="2026-03-02") == ["1 at 0", "2 at 0", "2 at 23"]
    assert await found(startdate="2026-03-02", enddate="2026-03-02") == ["2 at 0", "2 at 23"]
    assert await found(startdate="2026-03-02 00:30:00", enddate="2026-03-02 00:30:00") == ["2 at 0"]
    assert await found(startdate="2026-03-02 00:30:01", enddate="2026-03-02 23:00:00") == []
    with pytest.raises(ApiError, match="startdate"):
        await found(startdate="yesterday")


@pytest_twisted.ensureDeferred
async def test_jobs_are_filtered_by_start_date(cloud: SmallCloud) -> None:
    await cloud.job("deployVirtualMachine", **await deployment(cloud))
    assert (await cloud.call("listAsyncJobs", startdate="2020-01-01"))["count"] == 1
    assert await cloud.call("listAsyncJobs", startdate="9998-01-01") == {}


@pytest_twisted.ensureDeferred
async def test_long_list_of_ids_stays_within_the_databases_limit(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_NAMED_IDS", 2)
    ready = [cloud.add_template(name=f"t{number}")[0].uuid for number in range(4)]
    rows = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert [row["id"] for row in rows if row["isready"]] == ready
