# SPDX-License-Identifier: Apache-2.0
"""Parameters of templates and ISOs are applied, or rejected by name."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import NOWHERE, iso_registration, refusal, registration
from present import present
from small_cloud import SmallCloud
from systemvm.management import os_types
from systemvm.management.state import schema, templates, zones
from systemvm.wire.storage import DownloadState, ImageFormat
from user_vms import deployment_parameters


def second_zone(cloud: SmallCloud) -> zones.Zone:
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    cloud.database.run_now(
        zones.put_store, "other", zone_id=zone.id, url="nfs://10.12.0.3/x", host_path=None, nfs_version="4.2"
    )
    return zone


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("directdownload", "true"),
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
async def test_guests_of_a_template_take_passwords(cloud: SmallCloud) -> None:
    [row] = (await cloud.call("registerTemplate", **registration(cloud, passwordenabled="true")))["template"]
    assert row["passwordenabled"] is True
    await cloud.call("updateTemplate", id=row["id"], passwordenabled="false")
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert row["passwordenabled"] is False


@pytest_twisted.ensureDeferred
async def test_user_cannot_feature_a_template(cloud: SmallCloud) -> None:
    featured = registration(cloud, isfeatured="true")
    assert "isfeatured" in (await refusal(cloud, "registerTemplate", cloud.user, **featured)).message
    [row] = (await cloud.call("registerTemplate", **featured))["template"]
    assert row["isfeatured"]


@pytest_twisted.ensureDeferred
async def test_cross_zone_template_is_in_every_zone(cloud: SmallCloud) -> None:
    other = second_zone(cloud)
    rows = (await cloud.call("registerTemplate", **registration(cloud, zoneid="-1")))["template"]
    assert [(row["zonename"], row["crossZones"]) for row in rows] == [("zone1", True), ("zone2", True)]
    assert len({row["id"] for row in rows}) == 1
    [row] = (await cloud.call("listTemplates", templatefilter="all", zoneid=other.uuid))["template"]
    assert (row["zoneid"], row["downloaddetails"][0]["datastore"]) == (other.uuid, "other")
    assert (await cloud.call("listTemplates", templatefilter="all", zoneid="-1"))["count"] == 2
    [only_cd, _] = (await cloud.call("registerIso", **iso_registration(cloud, zoneid="-1")))["iso"]
    assert only_cd["crossZones"]
    error = await refusal(cloud, "registerTemplate", cloud.user, **registration(cloud, zoneid="-1"))
    assert "Only admins" in error.message


@pytest_twisted.ensureDeferred
async def test_showunique_lists_a_template_once(cloud: SmallCloud) -> None:
    second_zone(cloud)
    await cloud.call("registerTemplate", **registration(cloud, zoneid="-1"))
    mine = {"templatefilter": "self"}
    assert (await cloud.call("listTemplates", **mine))["count"] == 2
    once = await cloud.call("listTemplates", **mine, showunique="true")
    assert (once["count"], [row["zonename"] for row in once["template"]]) == (1, ["zone1"])
    # of those that are ready, the one zone is one where it is ready
    cloud.database.run_now(_only_ready_in, "zone2")
    ready = await cloud.call("listTemplates", **mine, showunique="true", isready="true")
    assert [row["zonename"] for row in ready["template"]] == ["zone2"]
    assert (await cloud.call("listTemplates", **mine, showunique="true", zoneid=cloud.zone.uuid))[
        "count"
    ] == 1


def _only_ready_in(connection: sa.Connection, zone_name: str) -> None:
    refs, stores, places = (
        schema.template_store_refs, schema.image_stores, schema.zones
    )  # fmt: skip
    of_zone = sa.select(stores.c.id).join(places, places.c.id == stores.c.zone_id)
    there = refs.c.store_id.in_(of_zone.where(places.c.name == zone_name))
    changed = connection.execute(refs.update().where(there).values(state=DownloadState.DOWNLOADED))
    assert changed.rowcount == 1


@pytest_twisted.ensureDeferred
async def test_cross_zone_template_must_be_ready_in_the_machines_zone(cloud: SmallCloud) -> None:
    other = second_zone(cloud)
    rows = (await cloud.call("registerTemplate", **registration(cloud, zoneid="-1")))["template"]
    values = await deployment_parameters(cloud) | {"templateid": rows[0]["id"]}
    template = cloud.database.run_now(templates.by_uuid, rows[0]["id"])
    here = present(cloud.database.run_now(templates.store_ref_of, template.id, cloud.zone.id))
    there = present(cloud.database.run_now(templates.store_ref_of, template.id, other.id))
    assert here.id != there.id
    cloud.database.run_now(templates.update_store_ref, there.id, state=DownloadState.DOWNLOADED)
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
    error = await refusal(cloud, "registerIso", **iso_registration(cloud, ostypeid="12"))
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
