# SPDX-License-Identifier: Apache-2.0
"""Downloads of templates for tests: registered, assigned to SSVMs and reported by them."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.state import templates
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadRequest, DownloadState, DownloadStatus

PROGRESS, DONE, FAILED, WAITING = (
    DownloadState.DOWNLOAD_IN_PROGRESS,
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)


def started(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, PROGRESS, received_bytes=0, total_bytes=1000)


def downloaded(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(
        request.job_id,
        DownloadState.DOWNLOADED,
        1000,
        1000,
        install_path=f"template/tmpl/{request.account_id}/{request.template_id}/x.qcow2",
        physical_size_bytes=1000,
        virtual_size_bytes=5000,
    )


def now_of(cloud: SmallCloud, ref: StoreRef) -> StoreRef:
    return cloud.database.run_now(templates.store_refs.by_id, ref.id)


def refs_of(cloud: SmallCloud) -> list[StoreRef]:
    return cloud.database.run_now(templates.store_refs.all)


async def status_of(cloud: SmallCloud, command: str = "listTemplates") -> dict[str, Any]:
    key, noun = ("isofilter", "iso") if command == "listIsos" else ("templatefilter", "template")
    [row] = (await cloud.call(command, **{key: "all"}))[noun]
    return dict(row)


async def report(cloud: SmallCloud, method: str, status: DownloadStatus, by: Any = None) -> Any:
    return await cloud.from_agent(by or cloud.ssvm, method, msgspec.to_builtins(status))


async def begin(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()


def register(cloud: SmallCloud, account_id: int, count: int, store_id: int | None = None) -> None:
    def fill(connection: sa.Connection) -> None:
        for number in range(count):
            templates.register(
                connection, name=f"a{account_id}-{number}", account_id=account_id,
                store_id=store_id or cloud.store.id,
                zone_id=cloud.zone.id, format=storage.ImageFormat.RAW, url="http://x.test/a.raw",
            )  # fmt: skip

    cloud.database.run_now(fill)


def second_ssvm(cloud: SmallCloud, peer: FakePeer) -> str:
    name = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE).instance_name
    cloud.agents.peers[name] = (Role.SSVM, peer)
    return name
