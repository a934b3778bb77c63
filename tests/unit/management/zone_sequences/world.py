# SPDX-License-Identifier: Apache-2.0
"""A small cloud whose daemon is killed and started again; its disks, its store and its machines stay."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from attrs import AttrsInstance

from small_cloud import SmallCloud, make
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import accounts, instances, jobs, schema, storage_pools
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import AccountType
from systemvm.management.state.templates import Template
from systemvm.management.templates.copies import TemplateCopies
from systemvm.management.volumes.leftovers import Leftovers, ListedStorage
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import SystemVmError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.snapshot import SNAPSHOT_DELETE, SNAPSHOT_PUBLISH, SNAPSHOT_WRITE
from systemvm.wire.storage import (
    TEMPLATE_COPY,
    TEMPLATE_DELETE,
    CopyRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    TemplateDelete,
)
from unit.management.zone_sequences.disks import DiskDirectory, Faults, Machines, flat, write
from unit.management.zone_sequences.fuse import Fuse, Killed, protect

R = TypeVar("R", bound=AttrsInstance)

GIB = 1 << 30
#: A job waits for nothing longer than for an SSVM, which is 300 s.
_PATIENCE_S, _STEP_S = 1200.0, 2.0


class World:
    """What outlives the daemon, and the daemon of now."""

    def __init__(self, directory: Path, pristine: Path, order: random.Random) -> None:
        self.directory = directory
        self.order = order
        self.faults = Faults(order)
        self.fuse = Fuse(order)
        self.machines = Machines(self.fuse, self.faults)
        self.images: dict[int, str] = {}  # the snapshots that templates were made from, by their numbers
        self.kills = 0
        self.log: list[str] = []
        self.cloud = make(directory, pristine, self.machines)
        self._connect()

    @property
    def database(self) -> Database:
        return self.cloud.database

    @property
    def store(self) -> Path:
        return self.directory / "secondary"

    def present(self, rows: Rows[R]) -> list[R]:
        """Return the rows of a table that are not removed."""
        return self.database.run_now(rows.all, rows.table.c.removed.is_(None))

    # --- the daemon

    @property
    def leftovers(self) -> Leftovers:
        cloud = self.cloud
        pools = cast("StorageByPool[ListedStorage]", cloud.pools)
        return Leftovers(cloud.database, pools, cloud.volumes, cloud.uefi_variables, host_id=cloud.host.id)

    def _connect(self) -> None:
        """Give a new daemon the disks, the store and the machines of the one before."""
        cloud, faults, fuse = self.cloud, self.faults, self.fuse
        protect(cloud.database, fuse)
        for name in ("volumes", "snapshots"):
            (self.directory / name).mkdir(exist_ok=True)
        own = DiskDirectory(self.directory, fuse, faults, self.machines.taken)
        cloud.pools.own = own  # type: ignore[assignment]
        cloud.pools._open_storage = lambda path: DiskDirectory(path, fuse, faults, self.machines.taken)  # type: ignore[assignment, return-value]
        cloud.mounter.mount = self._by_helper(cloud.mounter.mount)  # type: ignore[method-assign]
        cloud.mounter.unmount = self._by_helper(cloud.mounter.unmount)  # type: ignore[method-assign]
        SnapshotStore.of(cloud)
        answers = cloud.ssvm_peer.answers
        for method in (SNAPSHOT_WRITE, SNAPSHOT_PUBLISH, SNAPSHOT_DELETE):
            answers[method] = self._by_ssvm(answers[method])
        answers[TEMPLATE_COPY] = self._by_ssvm(self._make_image)
        answers[TEMPLATE_DELETE] = self._by_ssvm(self._delete_image)

    def _by_helper(
        self, serve: Callable[..., Coroutine[Any, Any, None]]
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        fuse = self.fuse

        async def call(*arguments: Any) -> None:
            fuse.burn()
            await serve(*arguments)
            fuse.burn()

        return call

    def _by_ssvm(self, answer: Any) -> Any:
        fuse = self.fuse

        def call(params: Any) -> Any:
            fuse.burn()
            if self.faults.happens():
                return RpcError.refused("store_hangs", "store hangs", "check the NFS server")
            result = answer(params)
            fuse.burn()
            return result

        return call

    async def restart(self) -> None:
        """Kill the daemon wherever it is, and start another one, which can be killed at its start, too."""
        self.kills += 1
        self.log.append("kill")
        before = self.cloud
        self._end()
        self.fuse = Fuse(self.order, self.order.randrange(60) if self.order.random() < 0.2 else None)
        self.machines.restart_daemon(self.fuse)
        self.cloud = SmallCloud(
            database=before.database,  # opening it again would only cost time
            seal=before.seal,
            zone=before.zone,
            store=before.store,
            host=before.host,
            ssvm=before.ssvm,
            cpvm=before.cpvm,
            admin=before.admin,
            user=before.user,
            hypervisor=self.machines,
        )
        self._connect()
        try:
            await self.fuse.drive(self.start())
        except Killed:
            await self.restart()

    async def start(self) -> None:
        """Do what UserServices does at its start, and when an SSVM connects."""
        cloud = self.cloud
        alive = {name: self.machines.statuses[name] for name in self.machines.running()}
        await cloud.machines.adopt(alive)
        await self.leftovers.claim_unmade()
        await cloud.volumes.finish_deletions()
        await cloud.jobs.resume_pending()
        cloud.dispatch.start()
        await cloud.snapshot_policies.start()

    async def tend(self) -> None:
        """Do what the daemon repeats: downloads, deletions, machines to expunge, unused copies, mounts."""
        cloud = self.cloud
        await cloud.dispatch.reconcile()
        await cloud.snapshots.finish_deletions()
        await cloud.snapshot_images.tend()
        await cloud.volumes.finish_deletions()
        await self.leftovers.delete()
        for vm_id in await cloud.database.read(instances.due_for_expunge, cloud.host.id):
            with suppress(PrimaryStorageError):  # it stays due, as for the reaper
                await cloud.machines.expunge_if_due(vm_id)
        await TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id).remove_unused()
        await cloud.storage_pools.unmount_unknown()

    # --- an SSVM's images

    def _make_image(self, request: CopyRequest) -> DownloadStatus:
        """Make an image of a snapshot."""
        chain = request.source_chain
        assert chain is not None
        snapshots = self.store / "snapshots" / str(chain.account_id) / str(chain.volume_id)
        name = f"template/tmpl/{request.account_id}/{request.template_id}/image.qcow2"
        path = self.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {"size": GIB, "blocks": flat([snapshots / each for each in chain.snapshot_ids])})
        self.images[request.template_id] = chain.snapshot_ids[-1]
        return DownloadStatus(
            request.job_id,
            DownloadState.DOWNLOADED,
            500,
            500,
            install_path=name,
            physical_size_bytes=500,
            virtual_size_bytes=request.virtual_size_bytes,
        )

    def _delete_image(self, order: TemplateDelete) -> Acknowledgement:
        place = self.store / "template/tmpl" / str(order.account_id) / str(order.template_id)
        if place.exists():
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
        return Acknowledgement()

    def add_account(self, domain_id: int) -> None:
        """Add an account with a user."""

        def add(connection: Connection) -> None:
            name = f"account-{len(accounts.all_accounts(connection))}"
            made = accounts.create_account(connection, name, AccountType.USER, domain_id)
            accounts.create_user(connection, name, made, None)

        self.database.run_now(add)

    def add_template(self) -> Template:
        template, ref = self.cloud.add_template(password_enabled=True, public=True)
        path = self.store / (ref.install_path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {"size": 1 << 20, "blocks": {"0": template.id}})
        return template

    def add_iso(self) -> None:
        _, ref = self.cloud.add_template(format=ImageFormat.ISO, name="drivers")
        path = self.store / (ref.install_path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {"size": 1 << 20, "blocks": {}})

    # --- calls

    async def call(self, command: str, **parameters: Any) -> Any:
        """Make a call; None when it was refused, which must be for a reason."""
        self.log.append(f"{command} {parameters}")
        try:
            return await self.fuse.drive(self.cloud.call(command, **parameters))
        except SystemVmError as error:
            refused = as_api_error(error, "request")
            self.log.append(f"  refused: {refused.message}")
            assert refused.code != ErrorCode.INTERNAL, f"{command}: {refused.message}"
            return None

    async def quiet(self) -> None:
        """Let time pass until all jobs have ended."""
        cloud = self.cloud
        begun_s = cloud.clock.seconds()
        while True:
            while self.fuse.give_turn():
                pass
            if self.fuse.is_blown:
                raise Killed
            waiting = [job.command for job in cloud.database.run_now(jobs.pending)]
            if not waiting:
                self._check_failures()
                return
            assert cloud.clock.seconds() - begun_s < _PATIENCE_S, f"they never end: {waiting}"
            cloud.clock.advance(_STEP_S)

    def _check_failures(self) -> None:
        """Check that no job has failed by an error in the daemon, or in a double."""
        for job in self.database.run_now(jobs.rows.all):
            if job.result_code == ErrorCode.INTERNAL:
                assert "was interrupted" in str(job.result), f"{job.command}: {job.result}"

    async def end_maintenance(self) -> None:
        """Make pools usable again: what is to be deleted in them waits for that."""
        for pool in self.database.run_now(storage_pools.list_created):
            if pool.state != storage_pools.UP:
                await self.call("cancelStorageMaintenance", id=pool.uuid)
        await self.quiet()

    def close(self) -> None:
        self._end()
        self.database.close()

    def _end(self) -> None:
        self.fuse.blow()
        self.cloud.jobs.stop()
        self.cloud.dispatch.stop()
        self.cloud.snapshot_policies.stop()

    def end_expunge_delay(self) -> None:
        """Make the destroyed machines due."""
        v = schema.vm_instances
        self.database.run_now(
            lambda connection: connection.execute(
                v.update().where(v.c.expunge_at.is_not(None), v.c.removed.is_(None)).values(expunge_at=now())
            )
        )
