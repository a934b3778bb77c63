# SPDX-License-Identifier: Apache-2.0
"""Lists that SQL selects, compared with CloudStack's rules applied to each row."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_requests import refusal
from small_cloud import SmallCloud
from systemvm.management.api.commands import events as event_commands
from systemvm.management.api.commands.template_list import FILTERS
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.state import (
    alerts,
    events,
    instances,
    schema,
    template_permissions,
    templates,
    zones,
)
from systemvm.management.state.database import Connection
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.wire.storage import DownloadState, ImageFormat

READY = DownloadState.DOWNLOADED
TEMPLATES = 60


def fill(cloud: SmallCloud, chance: random.Random) -> tuple[list[tuple[Template, StoreRef]], set[int]]:
    """Add templates of all kinds; return them with their copies, and the numbers of the shared ones."""
    zone2 = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    store2 = cloud.database.run_now(
        zones.put_store,
        "second",
        zone_id=zone2.id,
        url="nfs://10.12.0.3/x",
        nfs_version="4.2",
        host_path=None,
    )
    copies, shared = [], set()
    for number in range(TEMPLATES):
        in_second = chance.random() < 0.3
        template, ref = cloud.add_template(
            owner=chance.choice((cloud.admin, cloud.user)),
            state=chance.choice((READY, READY, DownloadState.DOWNLOAD_IN_PROGRESS)),
            name=f"template {number}",
            display_text=chance.choice(("Ärger", "a % sign", "plain")),
            format=chance.choice((ImageFormat.QCOW2, ImageFormat.ISO)),
            public=chance.random() < 0.5,
            featured=chance.random() < 0.5,
            bootable=chance.random() < 0.5,
        )
        if in_second:
            ref = cloud.database.run_now(templates.update_store_ref, ref.id, store_id=store2.id)
            template = cloud.database.run_now(templates.update, template.id, zone_id=zone2.id)
        if chance.random() < 0.2:
            cloud.database.run_now(template_permissions.add, template.id, [cloud.user.account.id])
            shared.add(template.id)
        if chance.random() < 0.2:
            cloud.database.run_now(templates.request_deletion, template.id)
            continue
        copies.append((template, ref))
    return copies, shared


def passes(wanted: str, viewer: Principal, template: Template, ref: StoreRef, shared: set[int]) -> bool:
    """CloudStack's templatefilter, one row at a time."""
    own = template.account_id == viewer.account.id
    is_shared = template.id in shared and not viewer.is_admin  # nothing is shared with the administrator
    ready = ref.state is READY
    rules: dict[str, bool] = {
        "all": viewer.is_admin,
        "featured": template.featured and template.public,
        "community": template.public and not template.featured,
        "self": own,
        "selfexecutable": own and ready,
        "executable": (own or template.public or is_shared) and ready,
        "shared": is_shared,
        "sharedexecutable": is_shared and ready,
    }
    return rules[wanted]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(3))
async def test_filters_of_templates_and_isos(cloud: SmallCloud, seed: int) -> None:
    copies, shared = fill(cloud, random.Random(seed))
    further: dict[str, tuple[dict[str, str], Callable[[Template, StoreRef], bool]]] = {
        "none": ({}, lambda template, ref: True),
        "ready": ({"isready": "true"}, lambda template, ref: ref.state is READY),
        "zone": ({"zoneid": cloud.zone.uuid}, lambda template, ref: template.zone_id == cloud.zone.id),
        "keyword": ({"keyword": "äRG"}, lambda template, ref: template.display_text == "Ärger"),
        "literal": ({"keyword": "% S"}, lambda template, ref: "%" in template.display_text),
        "name": ({"name": "template 3"}, lambda template, ref: template.name == "template 3"),
        "hypervisor": ({"hypervisor": "kvm"}, lambda template, ref: template.hypervisor == "KVM"),
    }
    compared = 0
    for viewer in (cloud.admin, cloud.user):
        for wanted in FILTERS:
            for parameters, fits in further.values():
                if wanted == "all" and not viewer.is_admin:
                    continue
                for command, key, is_iso in (
                    ("listTemplates", "templatefilter", False),
                    ("listIsos", "isofilter", True),
                ):
                    answer = await cloud.call(command, viewer, **{key: wanted}, **parameters)
                    found = [row["name"] for row in answer.get("iso" if is_iso else "template", [])]
                    expected = [
                        template.name
                        for template, ref in copies
                        if template.is_iso is is_iso
                        and passes(wanted, viewer, template, ref, shared)
                        and fits(template, ref)
                    ]
                    assert found == expected, (viewer.account.name, wanted, parameters)
                    assert answer.get("count", 0) == len(expected)
                    compared += bool(expected)
    assert compared > 50


@pytest_twisted.ensureDeferred
async def test_pages_together_are_the_list_and_the_count_follows_changes(cloud: SmallCloud) -> None:
    added = [cloud.add_template(name=f"t{number}")[0] for number in range(7)]

    async def page(number: int) -> dict[str, Any]:
        return dict(await cloud.call("listTemplates", templatefilter="all", page=number, pagesize=3))

    pages = [await page(number) for number in (1, 2, 3)]
    assert [row["name"] for each in pages for row in each["template"]] == [
        f"t{number}" for number in range(7)
    ]
    assert {each["count"] for each in pages} == {7}
    assert (await page(4)) == {"count": 7, "template": []}
    cloud.database.run_now(templates.request_deletion, added[0].id)
    assert (await page(1))["count"] == 6
    cloud.add_template(name="new")
    assert (await page(1))["count"] == 7


@pytest_twisted.ensureDeferred
async def test_a_copy_that_becomes_ready_is_counted(cloud: SmallCloud) -> None:
    _, ref = cloud.add_template(state=DownloadState.DOWNLOAD_IN_PROGRESS)
    assert await cloud.call("listTemplates", templatefilter="self", isready="true") == {}
    cloud.database.run_now(templates.update_store_ref, ref.id, percent=50)
    assert await cloud.call("listTemplates", templatefilter="self", isready="true") == {}
    cloud.database.run_now(templates.update_store_ref, ref.id, state=READY)
    assert (await cloud.call("listTemplates", templatefilter="self", isready="true"))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_filters_of_virtual_machines(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(name="base")
    iso, _ = cloud.add_template(name="cd", format=ImageFormat.ISO)

    def add(connection: Connection, /, name: str, owner: Principal, **more: Any) -> None:
        common = {"zone_id": cloud.zone.id, "host_id": cloud.host.id, "account_id": owner.account.id}
        instances.create(connection, InstanceType.USER, name=name, **(common | more))

    for name, owner, more in (
        ("tiny", cloud.user, {"memory_mib": 128, "template_id": template.id, "state": InstanceState.RUNNING}),
        (
            "Small",
            cloud.admin,
            {"memory_mib": 512, "template_id": iso.id, "iso_id": iso.id, "display_name": "Über"},
        ),
        ("odd", cloud.admin, {"memory_mib": 300, "template_id": template.id, "iso_id": iso.id}),
        ("gone", cloud.admin, {"state": InstanceState.DESTROYED}),
    ):
        cloud.database.run_now(add, name, owner, **more)

    async def found(viewer: Principal | None = None, **parameters: Any) -> list[str]:
        answer = await cloud.call("listVirtualMachines", viewer, **{"listall": "true", **parameters})
        assert answer.get("count", 0) == len(answer.get("virtualmachine", []))
        return [row["name"] for row in answer.get("virtualmachine", [])]

    rows = (await cloud.call("listVirtualMachines", listall="true"))["virtualmachine"]
    offerings = {row["name"]: row["serviceofferingid"] for row in rows}
    assert await found() == ["tiny", "Small", "odd", "gone"]
    assert await found(cloud.user) == ["tiny"]
    assert await found(listall="false") == ["Small", "odd", "gone"]
    assert await found(state="Present") == ["tiny", "Small", "odd"]
    assert await found(state="running") == ["tiny"]
    assert await found(state="no such state") == []
    assert await found(hostid=cloud.host.uuid) == ["tiny"]
    assert await found(hostid=cloud.zone.uuid) == []
    assert await found(templateid=template.uuid) == ["tiny", "odd"]
    assert await found(templateid=iso.uuid) == ["Small"]
    assert await found(isoid=iso.uuid) == ["Small", "odd"]
    assert await found(serviceofferingid=offerings["tiny"]) == ["tiny"]
    assert await found(serviceofferingid=offerings["odd"], state="Present") == ["odd"]
    assert await found(serviceofferingid=cloud.zone.uuid) == []
    assert await found(keyword="über") == ["Small"]
    assert await found(name="SMALL") == ["Small"]
    assert await found(zoneid=cloud.zone.uuid, ids=[rows[0]["id"], rows[2]["id"]]) == ["tiny", "odd"]
    assert await found(id=rows[0]["id"], ids=[rows[2]["id"]]) == []
    networks = (await cloud.call("listNetworks"))["network"]
    assert len(await found(networkid=networks[0]["id"])) == 4
    assert await found(networkid=cloud.zone.uuid) == []


@pytest_twisted.ensureDeferred
async def test_all_events_can_be_paged(cloud: SmallCloud) -> None:
    for number in range(5):
        cloud.database.run_now(events.record, "PAGE", f"event {number}")
    answer = await cloud.call("listEvents", type="PAGE", page=2, pagesize=2)
    assert ([row["description"] for row in answer["event"]], answer["count"]) == (["event 2", "event 1"], 5)
    assert (await cloud.call("listEvents", type="PAGE", keyword="EVENT 3"))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_events_are_archived_and_deleted_by_those_who_see_them(cloud: SmallCloud) -> None:
    own, other = (
        cloud.database.run_now(events.record, "KEEP", "one", account_id=who.account.id)
        for who in (cloud.user, cloud.admin)
    )

    async def listed(viewer: Principal, **parameters: str) -> list[str]:
        found = await cloud.call("listEvents", viewer, type="KEEP", **parameters)
        return [row["id"] for row in found.get("event", [])]

    for command in ("archiveEvents", "deleteEvents"):
        both = f"{own.uuid},{other.uuid}"
        for wanted in ({}, {"startdate": "2026-01-01"}, {"ids": other.uuid}, {"ids": both}):
            with pytest.raises(ApiError) as refused:
                await cloud.call(command, cloud.user, **wanted)
            assert refused.value.code == 431
    assert await listed(cloud.user) == [own.uuid]
    await cloud.call("archiveEvents", cloud.user, ids=own.uuid)
    assert (await listed(cloud.user), await listed(cloud.admin)) == ([], [other.uuid])
    assert await listed(cloud.user, archived="true") == [own.uuid]
    await cloud.call("deleteEvents", cloud.user, ids=own.uuid)
    assert await listed(cloud.user, archived="true") == []
    await cloud.call("deleteEvents", type="KEEP")
    assert await listed(cloud.admin) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["archiveEvents", "deleteEvents"])
async def test_many_events_are_archived_and_deleted_in_short_transactions(
    cloud: SmallCloud, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_commands, "BATCH", 2)
    monkeypatch.setattr(event_commands, "READ", 6)
    own = [
        cloud.database.run_now(events.record, "MANY", str(number), account_id=cloud.user.account.id).uuid
        for number in range(15)
    ]
    cloud.database.run_now(events.record, "MANY", "of another")
    changed = [0]  # rows of each transaction

    def note(_connection: Connection, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith(("UPDATE events", "DELETE FROM events")):
            changed[-1] += cursor.rowcount

    def end(_connection: Connection) -> None:
        changed.append(0)

    for name, listener in (("after_cursor_execute", note), ("commit", end)):
        sa.event.listen(cloud.database.engine, name, listener)
    await cloud.call(command, cloud.user, type="MANY")
    for name, listener in (("after_cursor_execute", note), ("commit", end)):
        sa.event.remove(cloud.database.engine, name, listener)
    assert (sum(changed), max(changed)) == (len(own), 2)
    left = await cloud.call("listEvents", type="MANY")
    assert [row["description"] for row in left["event"]] == ["of another"]
    archived = (await cloud.call("listEvents", type="MANY", archived="true")).get("event", [])
    assert len(archived) == (len(own) if command == "archiveEvents" else 0)


@pytest_twisted.ensureDeferred
async def test_deleted_events_that_are_open_alerts_are_alerts_until_they_are_taken_away(
    cloud: SmallCloud,
) -> None:
    kind, owner = "TEMPLATE.DOWNLOAD.FAILED", cloud.user.account.id
    named, dated, taken = (
        cloud.database.run_now(events.record, kind, name, level="ERROR", account_id=owner).uuid
        for name in ("named", "dated", "taken")
    )
    rows = {"type": "28"}
    await cloud.call("archiveAlerts", ids=taken)
    await cloud.call("deleteEvents", cloud.user, ids=f"{named},{taken}")
    await cloud.call("deleteEvents", enddate="2099-12-31")
    assert (await cloud.call("listEvents", listall="true")).get("event", []) == []
    assert {row["id"] for row in (await cloud.call("listAlerts", **rows))["alert"]} == {named, dated}
    [waiting, count] = cloud.database.run_now(alerts.after, 0, 9)
    assert ([alert.uuid for alert in waiting], count) == ([dated, named], 2)
    assert (await refusal(cloud, "deleteEvents", cloud.user, ids=named)).code == 431
    await cloud.call("deleteAlerts", ids=f"{named},{dated}")
    assert await cloud.call("listAlerts", **rows) == {}
    left = cloud.database.run_now(
        lambda connection: list(connection.scalars(sa.select(schema.events.c.uuid)))
    )
    assert not {named, dated, taken} & set(left)
