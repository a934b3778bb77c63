# SPDX-License-Identifier: Apache-2.0
"""A small cloud in which a user and a stranger own one object of each kind, for the fuzzer of the API."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.principal import Principal
from systemvm.management.state import recordings, schema, volumes
from systemvm.management.state.database import Connection
from systemvm.management.state.status import RecordingState
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP
from systemvm.wire.storage import ImageFormat
from template_uploads import receive_uploads
from user_accounts import new_account
from user_vms import deploy_running

#: In every name and text of the stranger's: nobody else must ever read it.
MARK = "zqstranger"
_GIB = 1 << 30
_TABLES = {table.name: table for table in schema.events.metadata.sorted_tables}


@frozen
class FuzzedCloud:
    """The cloud, its two accounts, and the UUIDs that a call can name."""

    cloud: SmallCloud
    user: Principal
    stranger: Principal
    #: One UUID of each table: the user's own where there are owners.
    own: dict[str, str] = field(factory=dict)
    #: One UUID of each table that has owners: the stranger's.
    foreign: dict[str, str] = field(factory=dict)
    #: All that belongs to the stranger.
    secrets: frozenset[str] = frozenset()

    def stranger_state(self) -> str:
        """Return a hash of all rows of the stranger's."""
        return str(self.cloud.database.run_now(_state_of, self.stranger.account.id))


async def populate(cloud: SmallCloud, *, is_domain_admin: bool = False) -> FuzzedCloud:
    """Create both accounts, and an object of each kind for each.

    With `is_domain_admin` the user administers a domain of their own, which the stranger is not in.
    """
    SnapshotStore.of(cloud)
    receive_uploads(cloud)
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    where: dict[str, Any] = {}
    if is_domain_admin:
        domain = (await cloud.call("createDomain", name="unas"))["domain"]["id"]
        where = {"domainid": domain, "accounttype": 2}
    user, stranger = await new_account(cloud, "una", **where), await new_account(cloud, MARK)
    for owner, prefix in ((user, "una"), (stranger, MARK)):
        await _give_objects(cloud, owner, prefix)
    role = (await cloud.call("createRole", name="fuzzed-role", type="User"))["role"]["id"]
    await cloud.call("createRolePermission", roleid=role, rule="list*", permission="allow")
    own = cloud.database.run_now(_uuids, user.account.id, user.user.id)
    theirs = cloud.database.run_now(_uuids, stranger.account.id, stranger.user.id)
    foreign = {kind: uuid for kind, uuid in theirs.items() if uuid != own.get(kind)}
    secrets = cloud.database.run_now(_all_uuids, stranger)
    return FuzzedCloud(cloud, user, stranger, own, foreign, secrets)


async def _give_objects(cloud: SmallCloud, owner: Principal, prefix: str) -> None:
    template, _ = cloud.add_template(owner=owner, name=f"{prefix}-template", extractable=True)
    cloud.add_template(owner=owner, name=f"{prefix}-iso", format=ImageFormat.ISO)
    vm = await deploy_running(cloud, owner, template)
    root = cloud.database.run_now(volumes.root_of, vm.id)
    assert root is not None
    cloud.primary.sizes[root.uuid] = 2 * _GIB
    [offering] = (await cloud.call("listDiskOfferings"))["diskoffering"]
    await _job(
        cloud, "createVolume", owner,
        name=f"{prefix}-data", zoneid=cloud.zone.uuid, size="1", diskofferingid=offering["id"],
    )  # fmt: skip
    await _job(cloud, "createSnapshot", owner, volumeid=root.uuid, name=f"{prefix}-snapshot")
    await cloud.call(
        "createSnapshotPolicy", owner, volumeid=root.uuid, intervaltype="daily", schedule="30:02",
        timezone="Europe/Berlin", maxsnaps="2",
    )  # fmt: skip
    tags = {"tags[0].key": f"{prefix}-key", "tags[0].value": f"{prefix}-value"}
    await _job(cloud, "createTags", owner, resourceids=vm.uuid, resourcetype="UserVm", **tags)
    note = {"annotation": f"{prefix}-annotation", "entitytype": "VM", "entityid": vm.uuid}
    await cloud.call("addAnnotation", owner, **note)
    await cloud.call("registerUserKeys", owner, id=owner.user.uuid)
    await cloud.call("createConsoleEndpoint", owner, virtualmachineid=vm.uuid)
    upload = {"name": f"{prefix}-upload", "zoneid": cloud.zone.uuid, "format": "QCOW2", "hypervisor": "KVM"}
    await cloud.call("getUploadParamsForTemplate", owner, **upload)
    await _job(cloud, "extractTemplate", owner, id=template.uuid, mode="HTTP_DOWNLOAD")
    cloud.database.run_now(_add_recording, owner.account.id, cloud)


async def _job(cloud: SmallCloud, command: str, owner: Principal, **parameters: Any) -> None:
    job = await cloud.job(command, owner, **parameters)
    assert job.result_code == 0, (command, job.result)


def _add_recording(connection: Connection, account_id: int, cloud: SmallCloud) -> None:
    session = schema.console_sessions.c
    query = sa.select(session.id, session.vm_id, session.user_id).where(session.account_id == account_id)
    session_id, vm_id, user_id = connection.execute(query).one()
    recordings.create(
        connection, account_id=account_id, domain_id=1, zone_id=cloud.zone.id, session_id=session_id,
        vm_id=vm_id, user_id=user_id, proxy_id=cloud.cpvm.id, store_id=cloud.store.id,
        state=RecordingState.COMPLETE, sealed_key=cloud.seal.close("0" * 64),
    )  # fmt: skip


def _uuids(connection: Connection, account_id: int, user_id: int) -> dict[str, str]:
    """Return a UUID of each table: the account's where rows have owners and it owns one."""
    found: dict[str, str | None] = {}
    for name, table in _TABLES.items():
        if "uuid" not in table.c:
            continue
        query = sa.select(table.c.uuid).order_by(table.c.id)
        if "account_id" in table.c:
            own = connection.scalar(query.where(table.c.account_id == account_id))
            found[name] = own or connection.scalar(query)
        elif "user_id" in table.c:
            found[name] = connection.scalar(query.where(table.c.user_id == user_id))
        elif name == "accounts":
            found[name] = connection.scalar(query.where(table.c.id == account_id))
        else:
            found[name] = connection.scalar(query)
    isos = schema.templates.c
    iso = connection.scalar(
        sa.select(isos.uuid).where(isos.account_id == account_id, isos.format == ImageFormat.ISO)
    )
    return {name: uuid for name, uuid in (found | {"isos": iso}).items() if uuid is not None}


def _all_uuids(connection: Connection, owner: Principal) -> frozenset[str]:
    """Return the UUIDs of all that an account owns, the account's own too."""
    found = {owner.account.uuid, owner.user.uuid}
    for table in _TABLES.values():
        if "uuid" in table.c and "account_id" in table.c:
            found.update(
                connection.scalars(sa.select(table.c.uuid).where(table.c.account_id == owner.account.id))
            )
    return frozenset(found)


def _state_of(connection: Connection, account_id: int) -> str:
    state = hashlib.sha256()
    for name, table in _TABLES.items():
        owner = table.c.id if name == "accounts" else table.c.get("account_id")
        if owner is not None:
            rows = connection.execute(sa.select(table).where(owner == account_id))
            state.update(repr((name, sorted(map(repr, rows)))).encode())
    return state.hexdigest()
