# SPDX-License-Identifier: Apache-2.0
"""Which consoles are recorded, and the order that a CPVM gets for each connection. Over a connection."""

from __future__ import annotations

import os

from systemvm.management.configurations import console as settings
from systemvm.management.consoles.authorization import ConsoleDeniedError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import console_sessions, instances, recordings, zones
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import RecordingMode, RecordingState
from systemvm.management.state.zones import ImageStore
from systemvm.recording.format import KEY_BYTES
from systemvm.wire.console import ConsoleRefusal
from systemvm.wire.recording import RecordingOrder


def mode_for(connection: Connection, vm: Instance) -> RecordingMode:
    """Return whether new consoles of a VM are recorded: by its rule, its account's, or the zone's."""
    own = recordings.mode_of(connection, vm.id, vm.account_id)
    return settings.of_zone(connection, vm.zone_id).recording.mode if own is None else own


def order_for(connection: Connection, session_uuid: str, seal: Seal) -> RecordingOrder | None:
    """Return the order to record a connection of a session; None when it is not recorded.

    Raises: ConsoleDeniedError when it must be, and no store takes it.
    """
    session = console_sessions.by_uuid(connection, session_uuid)
    if session.recording is RecordingMode.OFF or session.proxy_id is None:
        return None
    vm = instances.by_id(connection, session.vm_id)
    store = _store(connection, vm.zone_id)
    if store is None:
        if session.recording is RecordingMode.REQUIRED:
            raise ConsoleDeniedError(ConsoleRefusal.NOT_RECORDED)
        text = "is not recorded: the zone has no image store that takes recordings"
        console_sessions.record(connection, session, "UNRECORDED", text, level="WARN")
        return None
    return _order(connection, session, vm, store, seal)


def _order(
    connection: Connection, session: ConsoleSessionRow, vm: Instance, store: ImageStore, seal: Seal
) -> RecordingOrder:
    configured = settings.of_zone(connection, vm.zone_id).recording
    key = os.urandom(KEY_BYTES).hex() if configured.encrypts else ""
    row = recordings.create(
        connection,
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        session_id=session.id,
        vm_id=vm.id,
        user_id=session.user_id,
        proxy_id=session.proxy_id,
        store_id=store.id,
        state=RecordingState.ORDERED,
        sealed_key=seal.close(key) if key else None,
    )
    console_sessions.record(connection, session, "RECORD", f"is recorded as {row.uuid} on {store.name}")
    return RecordingOrder(
        recording_id=row.uuid,
        title=vm.shown_name[:255],
        max_bytes=configured.max_bytes,
        is_required=session.recording is RecordingMode.REQUIRED,
        key=key,
    )


def _store(connection: Connection, zone_id: int) -> ImageStore | None:
    """Return the least full store; one that an SSVM mounts, if there is any: a bucket costs more requests."""
    found = [store for store in zones.list_image_stores(connection, zone_id) if store.takes_content]
    return min(found, key=lambda store: (store.is_bucket, store.used_ratio, store.id), default=None)
