# SPDX-License-Identifier: Apache-2.0
"""Recordings in the daemon: who is recorded, what CPVMs deliver, who sees it, and when it is deleted."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import cast

import pytest
import pytest_twisted

from console_tokens import add_vm, authorize, change_session, new_token, refusal, target
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.recordings.service import ABANDONED_AFTER
from systemvm.management.state import events, instances, recordings, zones
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.rpc.core.errors import FORBIDDEN, NOT_CONNECTED, RpcError
from systemvm.wire import storage
from systemvm.wire.console import ConsoleKind, ConsoleRefusal
from systemvm.wire.protocol import RECORDINGS_SINCE
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    RECORDING_APPEND,
    RECORDING_DELETE,
    RecordingRefusal,
)
from systemvm.wire.role import Role
from systemvm.wire.storage import Store, StoreStats
from unit.management.recordings.recording_calls import (
    StoredFiles,
    deliver,
    end,
    listed,
    ordered,
    recorded,
    setting,
)


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    return add_vm(cloud, "one", 5901)


@pytest.fixture
def stored(cloud: SmallCloud) -> StoredFiles:
    return StoredFiles(cloud)


@pytest_twisted.ensureDeferred
async def test_gaps_are_in_the_event_of_its_end(cloud: SmallCloud, vm: Instance, stored: StoredFiles) -> None:
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    await deliver(cloud, order.recording_id, 0, b"a recording")
    ended = {"recording_id": order.recording_id, "code": "complete", "gaps": 3}
    await cloud.from_agent(cloud.cpvm, CONSOLE_RECORDED, ended)
    events = (await cloud.call("listEvents", keyword=order.recording_id))["event"]
    [event] = [each for each in events if "3 gaps" in each["description"]]
    assert event["level"] == "WARN"
    [row] = await listed(cloud)
    assert row["state"] == "Complete"


@pytest_twisted.ensureDeferred
async def test_nothing_is_recorded_by_default(cloud: SmallCloud, vm: Instance) -> None:
    assert await ordered(cloud, vm) is None


@pytest_twisted.ensureDeferred
async def test_the_zone_the_account_and_the_vm_decide(cloud: SmallCloud, vm: Instance) -> None:
    owner = {"account": cloud.user.account.name, "domainid": cloud.user.domain.uuid}
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None and not order.is_required and order.title == "one" and not order.key
    await cloud.call("setConsoleRecordingRule", record="off", **owner)
    assert await ordered(cloud, vm) is None
    await cloud.call("setConsoleRecordingRule", record="required", virtualmachineid=vm.uuid)
    order = await ordered(cloud, vm)
    assert order is not None and order.is_required
    rules = (await cloud.call("listConsoleRecordingRules"))["consolerecordingrule"]
    assert [rule["record"] for rule in rules] == ["off", "required"]
    await cloud.call("setConsoleRecordingRule", record="inherit", virtualmachineid=vm.uuid)
    assert await ordered(cloud, vm) is None
    await cloud.call("setConsoleRecordingRule", record="inherit", **owner)
    assert await ordered(cloud, vm) is not None


@pytest_twisted.ensureDeferred
async def test_settings_of_the_zone_shape_the_order(cloud: SmallCloud, vm: Instance) -> None:
    for name, value in {"enabled": "true", "required": "true", "max.size": "7"}.items():
        await setting(cloud, name, value)
    await setting(cloud, "encryption.enabled", "true")
    await setting(cloud, "notice.enabled", "false")
    session = await authorize(cloud, await new_token(cloud, vm))
    assert not session.is_recorded
    order = (await target(cloud, session.session_id)).recording
    assert order.is_required and order.max_bytes == 7 << 20 and len(bytes.fromhex(order.key)) == 32
    assert order.key not in repr(order)
    [row] = cloud.database.run_now(recordings.rows.all)
    assert row.sealed_key is not None and cloud.seal.open(row.sealed_key) == order.key


@pytest_twisted.ensureDeferred
async def test_consoles_of_a_serial_port_are_recorded_by_the_same_rules(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    cloud.database.run_now(instances.update, vm.id, serial_port=5950, serial_fingerprint="ab" * 32)
    session = await authorize(cloud, await new_token(cloud, vm, kind="serial"))
    assert not session.is_recorded and (await target(cloud, session.session_id)).recording is None
    await cloud.call("setConsoleRecordingRule", record="required", virtualmachineid=vm.uuid)
    session = await authorize(cloud, await new_token(cloud, vm, kind="serial"))
    found = await target(cloud, session.session_id)
    assert session.is_recorded and found.kind is ConsoleKind.SERIAL and found.recording.is_required
    await deliver(cloud, found.recording.recording_id, 0, b"a recording")
    screen = await recorded(cloud, vm)
    kinds = {row["id"]: row["kind"] for row in await listed(cloud)}
    assert kinds == {found.recording.recording_id: "serial", screen: "screen"}
    assert [row["id"] for row in await listed(cloud, kind="serial")] == [found.recording.recording_id]


@pytest_twisted.ensureDeferred
async def test_each_connection_is_a_recording(cloud: SmallCloud, vm: Instance) -> None:
    await setting(cloud, "enabled", "true")
    session = await authorize(cloud, await new_token(cloud, vm))
    first = (await target(cloud, session.session_id)).recording
    second = (await target(cloud, session.session_id)).recording
    assert first.recording_id != second.recording_id


@pytest_twisted.ensureDeferred
async def test_without_a_store_only_required_recordings_close_the_console(
    cloud: SmallCloud, vm: Instance
) -> None:
    await setting(cloud, "enabled", "true")
    cloud.database.run_now(zones.update_store, cloud.store.id, read_only=True)
    session = await authorize(cloud, await new_token(cloud, vm))
    assert (await target(cloud, session.session_id)).recording is None
    await setting(cloud, "required", "true")
    session = await authorize(cloud, await new_token(cloud, vm))
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.NOT_RECORDED


@pytest_twisted.ensureDeferred
async def test_a_zone_whose_stores_are_buckets_has_recordings_in_one(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(0, 0)
    details = {
        "accesskey": "AKID",
        "secretkey": "very-secret",
        "endpoint": "s3.example.test",
        "bucket": "images",
    }
    added = {f"details[0].{key}": value for key, value in details.items()}
    await cloud.call("addImageStore", provider="S3", name="bucket", **added)

    async def store_of_a_recording() -> Store:
        recording_id = await recorded(cloud, vm)
        piece = cloud.ssvm_peer.params_of(RECORDING_APPEND)[-1]
        assert piece.recording_id == recording_id
        return cast(Store, piece.store)

    assert (await store_of_a_recording()).s3 is None, "a store that is mounted costs fewer requests"
    cloud.database.run_now(zones.update_store, cloud.store.id, read_only=True)
    in_bucket = (await store_of_a_recording()).s3
    assert in_bucket is not None and in_bucket.name == "images" and not in_bucket.has_keys
    for row in await listed(cloud):
        await cloud.call("deleteConsoleRecording", id=row["id"])
    assert stored.files == {} and cloud.ssvm_peer.params_of(RECORDING_DELETE)[0].store.s3 == in_bucket


@pytest_twisted.ensureDeferred
async def test_a_recorded_console_needs_a_cpvm_that_records(cloud: SmallCloud, vm: Instance) -> None:
    await setting(cloud, "enabled", "true")
    cloud.agents.protocols[cloud.cpvm.instance_name] = RECORDINGS_SINCE - 1
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid)
    assert not answer["consoleendpoint"]["success"]


@pytest_twisted.ensureDeferred
async def test_pieces_are_stored_and_read_back(cloud: SmallCloud, vm: Instance, stored: StoredFiles) -> None:
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    assert await listed(cloud) == []  # nothing of it is there
    await deliver(cloud, order.recording_id, 0, b"first ")
    [row] = await listed(cloud)
    assert (row["state"], row["size"], row["virtualmachinename"]) == ("Recording", 6, "one")
    await deliver(cloud, order.recording_id, 6, b"second")
    await deliver(cloud, order.recording_id, 6, b"second")  # repeated after a lost answer
    part = await cloud.call("readConsoleRecording", id=order.recording_id, offset=3)
    content = part["consolerecordingcontent"]
    assert base64.b64decode(content["data"]) == b"st second"
    assert (content["size"], content["state"]) == (12, "Recording")
    await end(cloud, order.recording_id, "complete")
    await end(cloud, order.recording_id, "complete")
    [row] = await listed(cloud, state="Complete", virtualmachineid=vm.uuid)
    assert row["endcode"] == "complete" and row["ended"]
    kinds = [event.type for event in cloud.database.run_now(events.newest, 50)]
    assert kinds.count("CONSOLE.RECORD") == kinds.count("CONSOLE.RECORDED") == 1


@pytest_twisted.ensureDeferred
async def test_a_recording_of_nothing_leaves_nothing(cloud: SmallCloud, vm: Instance) -> None:
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    await end(cloud, order.recording_id, "complete")
    assert await listed(cloud) == []
    with pytest.raises(RpcError) as refused:
        await deliver(cloud, order.recording_id, 0, b"late")
    assert refused.value.code == FORBIDDEN and refused.value.reason == RecordingRefusal.UNKNOWN.value


@pytest_twisted.ensureDeferred
async def test_another_cpvm_delivers_nothing(cloud: SmallCloud, vm: Instance, stored: StoredFiles) -> None:
    recording_id = await recorded(cloud, vm)
    other = cloud.add_system_vm(cloud.cpvm.type)
    cloud.agents.connect(other.instance_name, Role.CPVM)
    for method, params in (
        (CONSOLE_RECORD, {"recording_id": recording_id, "offset": 0, "data": ""}),
        (CONSOLE_RECORDED, {"recording_id": recording_id, "code": "refused"}),
    ):
        with pytest.raises(RpcError) as refused:
            await cloud.from_agent(other, method, params)
        assert refused.value.code == FORBIDDEN


@pytest_twisted.ensureDeferred
async def test_without_an_ssvm_the_cpvm_tries_again(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    cloud.agents.disconnect(cloud.ssvm.instance_name)
    with pytest.raises(RpcError) as refused:
        await deliver(cloud, order.recording_id, 0, b"x")
    assert refused.value.reason == RecordingRefusal.STORE_AWAY.value


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RpcError.refused("store_failed", "secondary storage failed"), RecordingRefusal.STORE_AWAY),
        (RpcError(NOT_CONNECTED, "connection lost"), RecordingRefusal.STORE_AWAY),
        (RpcError.refused(RecordingRefusal.GAP, "bytes are missing"), RecordingRefusal.GAP),
    ],
)
async def test_what_a_store_refuses_reaches_the_cpvm(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles, failure: RpcError, reason: RecordingRefusal
) -> None:
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    cloud.ssvm_peer.answers[RECORDING_APPEND] = lambda piece: failure
    with pytest.raises(RpcError) as refused:
        await deliver(cloud, order.recording_id, 0, b"x")
    assert refused.value.reason == reason.value


@pytest_twisted.ensureDeferred
async def test_a_recording_is_seen_by_its_owner_and_administrators(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    foreign, own = await recorded(cloud, vm), await recorded(cloud, vm)
    row = cloud.database.run_now(recordings.by_uuid, foreign)
    cloud.database.run_now(recordings.rows.update, row.id, account_id=cloud.admin.account.id)
    assert {row["id"] for row in await listed(cloud)} == {foreign, own}
    for command in ("openConsoleRecording", "readConsoleRecording"):
        with pytest.raises(ApiError, match="there is no recording"):
            await cloud.call(command, cloud.user, id=foreign)
    assert [row["id"] for row in await listed(cloud, cloud.user)] == [own]
    await cloud.call("openConsoleRecording", cloud.user, id=own)
    with pytest.raises(ApiError):
        await cloud.call("deleteConsoleRecording", cloud.user, id=own)
    with pytest.raises(ApiError):
        await cloud.call("setConsoleRecordingRule", cloud.user, record="off", virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_who_plays_a_recording_is_recorded(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    await setting(cloud, "encryption.enabled", "true")
    recording_id = await recorded(cloud, vm)
    access = (await cloud.call("openConsoleRecording", id=recording_id))["consolerecordingaccess"]
    assert len(access["key"]) == 64
    [event] = [
        event for event in cloud.database.run_now(events.newest, 50) if event.type == "CONSOLE.RECORDING.PLAY"
    ]
    assert event.user_id == cloud.admin.user.id and recording_id in event.description


@pytest_twisted.ensureDeferred
async def test_a_deleted_recording_is_gone_even_if_its_store_is_away(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    first, second = await recorded(cloud, vm), await recorded(cloud, vm)
    await cloud.call("deleteConsoleRecording", id=first)
    assert list(stored.files) == [second]
    cloud.ssvm_peer.answers[RECORDING_DELETE] = lambda place: RpcError(NOT_CONNECTED, "lost")
    await cloud.call("deleteConsoleRecording", id=second)
    assert await listed(cloud) == [] and list(stored.files) == [second]
    cloud.ssvm_peer.answers[RECORDING_DELETE] = stored.delete
    await cloud.recordings.tend()
    assert stored.files == {}


@pytest_twisted.ensureDeferred
async def test_old_recordings_are_deleted(cloud: SmallCloud, vm: Instance, stored: StoredFiles) -> None:
    old, young = await recorded(cloud, vm), await recorded(cloud, vm)
    row = cloud.database.run_now(recordings.by_uuid, old)
    cloud.database.run_now(recordings.rows.update, row.id, ended=now() - timedelta(days=31))
    await setting(cloud, "retention", "0")
    await cloud.recordings.tend()
    assert set(stored.files) == {old, young}
    await setting(cloud, "retention", "30")
    await cloud.recordings.tend()
    assert set(stored.files) == {young}
    assert [row["id"] for row in await listed(cloud)] == [young]


@pytest_twisted.ensureDeferred
async def test_a_lost_proxy_leaves_what_was_stored(
    cloud: SmallCloud, vm: Instance, stored: StoredFiles
) -> None:
    await setting(cloud, "enabled", "true")
    token = await new_token(cloud, vm)
    session = await authorize(cloud, token)
    order = (await target(cloud, session.session_id)).recording
    await deliver(cloud, order.recording_id, 0, b"until it was lost")
    [row] = cloud.database.run_now(recordings.rows.all)
    long_ago = now() - 2 * ABANDONED_AFTER
    cloud.database.run_now(recordings.rows.update, row.id, updated=long_ago)
    await cloud.recordings.tend()
    assert (await listed(cloud))[0][
        "state"
    ] == "Recording"  # its session goes on, and its screen stands still
    change_session(cloud, token, removed=now())
    cloud.database.run_now(recordings.rows.update, row.id, updated=long_ago)
    await cloud.recordings.tend()
    [found] = await listed(cloud)
    assert (found["state"], found["endcode"]) == ("Incomplete", "proxy_lost")
    await deliver(cloud, order.recording_id, 17, b" and came back")
    await end(cloud, order.recording_id, "interrupted")
    [found] = await listed(cloud)
    assert (found["size"], found["endcode"]) == (31, "interrupted")
