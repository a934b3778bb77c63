# SPDX-License-Identifier: Apache-2.0
"""Answers of lists are sent again while nothing has changed, and never after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from api_client import Browser
from small_cloud import SmallCloud
from systemvm.management.api.kept_answers import MAX_ANSWER_BYTES, MAX_BYTES, KeptAnswers
from systemvm.management.state import (
    accounts,
    configurations,
    console_sessions,
    events,
    instances,
    jobs,
    recordings,
    schema,
    snapshots,
    templates,
    volumes,
    zones,
)
from systemvm.management.state.changes import Changes
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.status import (
    AgentState,
    InstanceState,
    InstanceType,
    RecordingState,
    SnapshotState,
)
from systemvm.management.state.topics import reads_of_task
from user_vms import deploy_running

LISTS: dict[str, dict[str, str]] = {
    "listTemplates": {"templatefilter": "all"},
    "listVirtualMachines": {"listall": "true"},
    "listEvents": {"listall": "true"},
    "listConsoleRecordings": {},
    "listSystemVms": {},
    "listHosts": {},
    "listZones": {},
    "listAsyncJobs": {"listall": "true"},
    "listAccounts": {},
    "listUsers": {"listall": "true"},
    "listDomains": {},
    "listVolumes": {"listall": "true"},
    "listSnapshots": {"listall": "true"},
}


def rename(table: sa.Table, **changes: Any) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(table.update().values(**changes))


CHANGES: dict[str, tuple[str, Callable[[Connection], object]]] = {
    "a template's name": ("listTemplates", rename(schema.templates, name="renamed")),
    "a download's progress": ("listTemplates", rename(schema.template_store_refs, percent=17)),
    "a store's name": ("listTemplates", rename(schema.image_stores, name="renamed")),
    "a template's zone": ("listTemplates", rename(schema.zones, name="renamed")),
    "a template's owner": ("listTemplates", rename(schema.accounts, name="renamed")),
    "a template's domain": ("listTemplates", rename(schema.domains, name="renamed")),
    "a VM's name": ("listVirtualMachines", rename(schema.vm_instances, name="renamed")),
    "a VM's state": ("listVirtualMachines", rename(schema.vm_instances, state=InstanceState.STOPPING)),
    "why a VM waits": ("listVirtualMachines", rename(schema.vm_instances, reason="no room")),
    "a VM's NIC": ("listVirtualMachines", rename(schema.nics, address="10.13.0.99")),
    "a VM's template": ("listVirtualMachines", rename(schema.templates, name="renamed")),
    "a VM's zone": ("listVirtualMachines", rename(schema.zones, name="renamed")),
    "a VM's host": ("listVirtualMachines", rename(schema.hosts, name="renamed")),
    "a VM's owner": ("listVirtualMachines", rename(schema.accounts, name="renamed")),
    "a recording's size": ("listConsoleRecordings", rename(schema.console_recordings, size_bytes=9)),
    "a recording's VM": ("listConsoleRecordings", rename(schema.vm_instances, name="renamed")),
    "a recording's user": ("listConsoleRecordings", rename(schema.users, username="renamed")),
    "a system VM's agent": ("listSystemVms", rename(schema.vm_instances, agent_state=AgentState.ALERT)),
    "a system VM's load": ("listSystemVms", rename(schema.vm_instances, console_sessions=3)),
    "a system VM's NIC": ("listSystemVms", rename(schema.nics, address="10.13.0.99")),
    "a system VM's host": ("listSystemVms", rename(schema.hosts, name="renamed")),
    "a host's name": ("listHosts", rename(schema.hosts, name="renamed")),
    "a host's agent": ("listHosts", rename(schema.vm_instances, agent_state=AgentState.ALERT)),
    "a host's zone": ("listHosts", rename(schema.zones, name="renamed")),
    "a zone's name": ("listZones", rename(schema.zones, name="renamed")),
    "a job's progress": ("listAsyncJobs", rename(schema.async_jobs, progress=17)),
    "an account's name": ("listAccounts", rename(schema.accounts, name="renamed")),
    "an account's user": ("listAccounts", rename(schema.users, first_name="x")),
    "an account's VM": ("listAccounts", rename(schema.vm_instances, state=InstanceState.STOPPED)),
    "an account's templates": (
        "listAccounts",
        lambda connection: templates.update(connection, 1, account_id=3),
    ),
    "an account's storage": ("listAccounts", rename(schema.volumes, size_bytes=99 << 30)),
    "the limit of accounts": (
        "listAccounts",
        lambda connection: configurations.put(connection, "max.account.volumes", None, "7"),
    ),
    "a user's email": ("listUsers", rename(schema.users, email="x@example.com")),
    "a user's account": ("listUsers", rename(schema.accounts, name="renamed")),
    "a domain's name": ("listDomains", rename(schema.domains, name="renamed")),
    "a domain beneath": (
        "listDomains",
        lambda connection: accounts.create_domain(connection, "a", "/a", accounts.ROOT_DOMAIN_ID),
    ),
    "a volume's name": ("listVolumes", rename(schema.volumes, name="renamed")),
    "a volume's VM": ("listVolumes", rename(schema.vm_instances, display_name="renamed")),
    "a volume's template": ("listVolumes", rename(schema.templates, name="renamed")),
    "what a template permits with a volume": ("listVolumes", rename(schema.templates, extractable=True)),
    "a volume's size by its template": (
        "listVolumes",
        rename(schema.template_store_refs, virtual_size_bytes=4711),
    ),
    "a volume's pool": ("listVolumes", rename(schema.storage_pools, name="renamed")),
    "a volume's owner": ("listVolumes", rename(schema.accounts, name="renamed")),
    "a snapshot's state": ("listSnapshots", rename(schema.snapshots, state=SnapshotState.ERROR)),
    "a snapshot's volume": ("listSnapshots", rename(schema.volumes, name="renamed")),
    "a snapshot's store": ("listSnapshots", rename(schema.image_stores, name="renamed")),
    "a new event": ("listEvents", lambda connection: events.record(connection, "NEW", "new")),
    "an event's user": ("listEvents", rename(schema.users, first_name="x", username="renamed")),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("change", CHANGES)
async def test_an_answer_is_kept_until_what_it_shows_changes(
    cloud: SmallCloud, browser: Browser, change: str
) -> None:
    add_objects(cloud)
    await browser.login()
    selects: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            selects.append(statement)

    sa.event.listen(cloud.database.engine, "after_cursor_execute", executed)
    command, write = CHANGES[change]
    first = (await browser.call(command, **LISTS[command])).body
    selects.clear()
    assert (await browser.call(command, **LISTS[command])).body == first
    assert selects == []
    cloud.database.run_now(write)
    assert (await browser.call(command, **LISTS[command])).body != first


def add_objects(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()

    def add(connection: Connection) -> None:
        vm = instances.create(
            connection, InstanceType.USER, account_id=cloud.admin.account.id, name="machine",
            zone_id=cloud.zone.id, host_id=cloud.host.id, template_id=template.id,
            state=InstanceState.RUNNING,
        )  # fmt: skip
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=0,
            traffic_type="guest",
            bridge="cloudbr3",
            mac="02:00:00:00:00:01",
        )
        events.record(connection, "A", "b", user_id=cloud.admin.user.id)
        user = cloud.admin.user
        jobs.create(
            connection, command="stopSystemVm", arguments={}, user_id=user.id, account_id=user.account_id
        )
        session = console_sessions.create(
            connection, account_id=user.account_id, domain_id=1, zone_id=cloud.zone.id, user_id=user.id,
            vm_id=vm.id, proxy_id=cloud.cpvm.id, token_hash="x", token_expires=now(), creator_address=None,
        )  # fmt: skip
        [store] = zones.all_stores(connection)
        recordings.create(
            connection, account_id=user.account_id, domain_id=1, zone_id=cloud.zone.id, user_id=user.id,
            vm_id=vm.id, proxy_id=cloud.cpvm.id, store_id=store.id, session_id=session.id,
            state=RecordingState.COMPLETE,
        )  # fmt: skip
        volume = volumes.create(
            connection, name="disk", account_id=cloud.admin.account.id, vm_id=vm.id,
            zone_id=cloud.zone.id, host_id=cloud.host.id, template_id=template.id,
        )  # fmt: skip
        snapshots.insert(
            connection, name="snapshot", account_id=cloud.admin.account.id, volume_id=volume.id,
            zone_id=cloud.zone.id, store_id=store.id, host_id=cloud.host.id, state=SnapshotState.BACKED_UP,
        )  # fmt: skip

    cloud.database.run_now(add)


@pytest_twisted.ensureDeferred
async def test_each_caller_and_each_form_has_its_own_answer(cloud: SmallCloud, browser: Browser) -> None:
    cloud.add_template(name="only of the administrator")
    await browser.login()
    of_admin = await browser.call("listTemplates", templatefilter="self")
    as_xml = await browser.call("listTemplates", templatefilter="self", response="xml")
    assert (of_admin.body[:1], as_xml.body[:1]) == (b"{", b"<")
    user = Browser(cloud)
    user.site = browser.site
    await user.login("ulla", "battery staple")
    assert (await user.call("listTemplates", templatefilter="self")).json == {"listtemplatesresponse": {}}


@pytest_twisted.ensureDeferred
async def test_a_kept_answer_follows_the_setting_that_it_was_made_by(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud, cloud.user)
    await cloud.machines.destroy(vm.id)
    user, setting = Browser(cloud), {"name": "allow.user.view.destroyed.vm"}
    await user.login("ulla", "battery staple")

    async def listed() -> list[str]:
        for _ in range(2):  # the second one is kept
            answer = await user.call("listVirtualMachines")
        rows = answer.json["listvirtualmachinesresponse"].get("virtualmachine", [])
        return [row["id"] for row in rows]

    assert await listed() == []
    await cloud.call("updateConfiguration", **setting, value="true")
    assert await listed() == [vm.uuid]
    await cloud.call("resetConfiguration", **setting)
    assert await listed() == []


@pytest_twisted.ensureDeferred
async def test_an_account_that_loses_its_rights_gets_no_kept_answer(
    cloud: SmallCloud, browser: Browser
) -> None:
    cloud.add_template()
    await browser.login()
    assert (await browser.call("listTemplates", templatefilter="all")).status == 200
    cloud.database.run_now(accounts.update_account, cloud.admin.account.id, state="disabled")
    assert (await browser.call("listTemplates", templatefilter="all")).status == 401


@pytest_twisted.ensureDeferred
async def test_a_change_during_a_read_is_not_lost() -> None:
    changes = Changes()
    kept = KeptAnswers(changes)
    bodies = iter((b"old", b"new"))

    async def make() -> bytes:
        tables = reads_of_task.get()
        assert tables is not None
        tables.add("templates")
        changes.committed({"templates"})
        return next(bodies)

    assert await kept.get("key", make) == b"old"
    assert await kept.get("key", make) == b"new"


@pytest_twisted.ensureDeferred
async def test_kept_answers_are_bounded_and_long_ones_are_not_kept() -> None:
    kept = KeptAnswers(Changes())
    made: list[int] = []

    async def ask(key: int, size: int = MAX_ANSWER_BYTES) -> None:
        async def make() -> bytes:
            made.append(key)
            return bytes(size)

        await kept.get(key, make)

    for _ in range(2):
        await ask(0, MAX_ANSWER_BYTES + 1)
    assert made == [0, 0]
    most = MAX_BYTES // MAX_ANSWER_BYTES
    for key in range(1, most + 2):
        await ask(key)
    made.clear()
    await ask(2)
    assert made == []
    await ask(1)
    assert made == [1]


@pytest_twisted.ensureDeferred
async def test_a_failure_is_not_kept() -> None:
    kept = KeptAnswers(Changes())

    async def fail() -> bytes:
        raise ArithmeticError

    async def succeed() -> bytes:
        return b"right"

    with pytest.raises(ArithmeticError):
        await kept.get("key", fail)
    assert await kept.get("key", succeed) == b"right"
    assert reads_of_task.get() is None
