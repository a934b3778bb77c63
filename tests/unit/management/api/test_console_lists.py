# SPDX-License-Identifier: Apache-2.0
"""Lists of sessions, recordings and system VMs that SQL selects, compared with each rule for each row."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from small_cloud.rows import add_system_vm
from systemvm.management.state import console_sessions, instances, recordings, zones
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.recordings import RecordingRow
from systemvm.management.state.status import InstanceState, InstanceType, RecordingState

SESSIONS = 40
ADDRESSES = ("192.0.2.1", "192.0.2.2")
Case = tuple[dict[str, str], Callable[[Any], bool]]


def fill(cloud: SmallCloud, chance: random.Random) -> tuple[list[ConsoleSessionRow], list[Instance]]:
    """Add VMs and sessions, links and ended sessions; return the sessions, the newest first."""

    def add(connection: Connection) -> tuple[list[ConsoleSessionRow], list[Instance]]:
        vms = [
            instances.create(
                connection, InstanceType.USER, name=name, display_name=shown, zone_id=cloud.zone.id,
                host_id=host_id, account_id=cloud.user.account.id,
            )
            for name, shown, host_id in (("one", None, cloud.host.id), ("hidden", "Über", None))
        ]  # fmt: skip
        for number in range(SESSIONS):
            user = chance.choice((cloud.admin, cloud.user)).user
            session = console_sessions.create(
                connection, account_id=cloud.user.account.id, domain_id=1, zone_id=cloud.zone.id,
                user_id=user.id, vm_id=chance.choice(vms).id, proxy_id=cloud.cpvm.id,
                token_hash=str(number), token_expires=datetime(2037, 1, 1, tzinfo=UTC),
                creator_address=chance.choice(ADDRESSES),
            )  # fmt: skip
            moment = datetime(2026, 3, 1 + number % 20, 12, tzinfo=UTC)
            changes: dict[str, Any] = {"created": moment}
            if chance.random() < 0.7:
                changes |= {"acquired": moment, "client_address": chance.choice(ADDRESSES)}
            if chance.random() < 0.5:
                changes |= {"removed": moment, "close_reason": "test"}
            console_sessions.rows.update(connection, session.id, **changes)
        return console_sessions.list_all(connection)[::-1], vms

    return cloud.database.run_now(add)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(2))
async def test_filters_of_console_sessions(cloud: SmallCloud, seed: int) -> None:
    rows, [one, other] = fill(cloud, random.Random(seed))
    admin, user = cloud.admin, cloud.user
    everything = {"activeonly": "false"}
    cases: list[Case] = [
        ({}, lambda row: row.acquired is not None and row.removed is None),
        (everything, lambda row: True),
        (everything | {"acquired": "true"}, lambda row: row.acquired is not None),
        (everything | {"id": rows[3].uuid}, lambda row: row.id == rows[3].id),
        (everything | {"userid": user.user.uuid}, lambda row: row.user_id == user.user.id),
        (everything | {"accountid": user.account.uuid}, lambda row: row.user_id == user.user.id),
        (everything | {"virtualmachineid": one.uuid}, lambda row: row.vm_id == one.id),
        (everything | {"hostid": cloud.host.uuid}, lambda row: row.vm_id == one.id),
        (everything | {"clientaddress": ADDRESSES[0]}, lambda row: row.client_address == ADDRESSES[0]),
        (
            everything | {"consoleendpointcreatoraddress": ADDRESSES[1]},
            lambda row: row.creator_address == ADDRESSES[1],
        ),
        (everything | {"startdate": "2026-03-05"}, lambda row: row.created.day >= 5),
        (everything | {"enddate": "2026-03-05"}, lambda row: row.created.day <= 5),
        (everything | {"keyword": "üBER"}, lambda row: row.vm_id == other.id),
        (everything | {"keyword": "hidden"}, lambda row: False),
    ]
    for viewer in (admin, user):
        for parameters, fits in cases:
            visible = [row for row in rows if viewer.is_admin or row.user_id == viewer.user.id]
            expected = [row.uuid for row in visible if fits(row)]
            answer = await cloud.call("listConsoleSessions", viewer, **parameters)
            found = [row["id"] for row in answer.get("consolesession", [])]
            assert found == expected, (viewer.account.name, parameters)
            assert answer.get("count", 0) == len(expected)


@pytest_twisted.ensureDeferred
async def test_pages_of_ended_sessions_together_are_the_list(cloud: SmallCloud) -> None:
    rows, _ = fill(cloud, random.Random(3))
    found: list[str] = []
    for page in range(1, SESSIONS // 7 + 2):
        answer = await cloud.call("listConsoleSessions", activeonly="false", page=page, pagesize=7)
        assert answer["count"] == SESSIONS
        found += [row["id"] for row in answer["consolesession"]]
    assert found == [row.uuid for row in rows]
    opened = next(row for row in rows if row.acquired is not None and row.removed is None)
    count = (await cloud.call("listConsoleSessions"))["count"]
    cloud.database.run_now(console_sessions.close, opened.uuid, "over")
    assert (await cloud.call("listConsoleSessions"))["count"] == count - 1


def add_recordings(cloud: SmallCloud, chance: random.Random) -> list[RecordingRow]:
    """Add recordings of all kinds; return those that a list can contain, the newest first."""
    sessions, _ = fill(cloud, chance)

    def add(connection: Connection) -> list[RecordingRow]:
        kept = []
        [store, *_] = zones.all_stores(connection)
        for number in range(SESSIONS):
            session = chance.choice(sessions)
            row = recordings.create(
                connection, session_id=session.id, vm_id=session.vm_id, user_id=session.user_id,
                proxy_id=session.proxy_id, zone_id=session.zone_id, store_id=store.id,
                account_id=chance.choice((cloud.admin, cloud.user)).account.id, domain_id=1,
                state=chance.choice(list(RecordingState)),
                created=datetime(2026, 3, 1 + number % 20, 12, tzinfo=UTC),
            )  # fmt: skip
            if chance.random() < 0.2:
                recordings.deleted(connection, row.uuid)
            elif row.state not in (RecordingState.ORDERED, RecordingState.DELETING):
                kept.append(row)
        return kept[::-1]

    return cloud.database.run_now(add)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(2))
async def test_filters_of_recordings(cloud: SmallCloud, seed: int) -> None:
    rows = add_recordings(cloud, random.Random(seed))
    names = {row.id: row for row in cloud.database.run_now(instances.list_user)}
    sessions = {row.id: row.uuid for row in cloud.database.run_now(console_sessions.list_all)}
    user, first = cloud.user.user, rows[0]
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": first.uuid}, lambda row: row.id == first.id),
        ({"virtualmachineid": names[first.vm_id].uuid}, lambda row: row.vm_id == first.vm_id),
        ({"consolesessionid": sessions[first.session_id]}, lambda row: row.session_id == first.session_id),
        ({"userid": user.uuid}, lambda row: row.user_id == user.id),
        ({"state": "Complete"}, lambda row: row.state is RecordingState.COMPLETE),
        ({"startdate": "2026-03-05"}, lambda row: row.created.day >= 5),
        ({"enddate": "2026-03-05"}, lambda row: row.created.day <= 5),
        ({"keyword": "üBER"}, lambda row: names[row.vm_id].display_name == "Über"),
        ({"keyword": "ULL"}, lambda row: row.user_id == user.id),
        ({"keyword": "hidden"}, lambda row: False),
    ]
    for viewer in (cloud.admin, cloud.user):
        for parameters, fits in cases:
            visible = [row for row in rows if viewer.is_admin or row.account_id == viewer.account.id]
            expected = [row.uuid for row in visible if fits(row)]
            answer = await cloud.call("listConsoleRecordings", viewer, **parameters)
            found = [row["id"] for row in answer.get("consolerecording", [])]
            assert found == expected, (viewer.account.name, parameters)
            assert answer.get("count", 0) == len(expected)
    page = await cloud.call("listConsoleRecordings", page=2, pagesize=3)
    assert [row["id"] for row in page["consolerecording"]] == [row.uuid for row in rows[3:6]]
    assert page["count"] == len(rows)


@pytest_twisted.ensureDeferred
async def test_filters_of_system_vms(cloud: SmallCloud) -> None:
    fill(cloud, random.Random(1))

    def add(connection: Connection) -> list[Instance]:
        zone2 = zones.put_zone(connection, "zone2", arch="amd64")
        for kind in (InstanceType.CONSOLE_PROXY, InstanceType.SECONDARY_STORAGE):
            for state in (InstanceState.RUNNING, InstanceState.STOPPED):
                vm = add_system_vm(connection, kind, zone2.id, cloud.host.id)
                instances.update(connection, vm.id, state=state)
        instances.update(connection, vm.id, host_id=None, arch="arm64")
        gone = add_system_vm(connection, InstanceType.CONSOLE_PROXY, zone2.id, cloud.host.id)
        instances.remove(connection, gone.id, InstanceState.DESTROYED)
        return [vm for vm in instances.list_system(connection) if vm.id != gone.id]

    rows = cloud.database.run_now(add)
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": rows[2].uuid}, lambda row: row.id == rows[2].id),
        ({"name": rows[3].instance_name.upper()}, lambda row: row.id == rows[3].id),
        ({"state": "stopped"}, lambda row: row.state is InstanceState.STOPPED),
        ({"systemvmtype": "consoleproxy"}, lambda row: row.type is InstanceType.CONSOLE_PROXY),
        ({"systemvmtype": "secondarystoragevm"}, lambda row: row.type is InstanceType.SECONDARY_STORAGE),
        ({"zoneid": cloud.zone.uuid}, lambda row: row.zone_id == cloud.zone.id),
        ({"zoneid": cloud.host.uuid}, lambda row: False),
        ({"hostid": cloud.host.uuid}, lambda row: row.host_id == cloud.host.id),
        ({"hostid": cloud.zone.uuid}, lambda row: False),
        ({"arch": "arm64"}, lambda row: row.arch == "arm64"),
        ({"keyword": "V-"}, lambda row: row.type is InstanceType.CONSOLE_PROXY),
    ]
    for parameters, fits in cases:
        expected = [row.uuid for row in rows if fits(row)]
        answer = await cloud.call("listSystemVms", **parameters)
        assert [row["id"] for row in answer.get("systemvm", [])] == expected, parameters
        assert answer.get("count", 0) == len(expected)
    page = await cloud.call("listSystemVms", page=2, pagesize=2)
    assert ([row["id"] for row in page["systemvm"]], page["count"]) == ([vm.uuid for vm in rows[2:4]], 6)
