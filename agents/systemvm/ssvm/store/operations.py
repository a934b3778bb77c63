# SPDX-License-Identifier: Apache-2.0
"""`systemvm-store`: the operations on secondary storage as root, in forked processes.

A job works in a hidden directory of the same store, and publishing is one rename: a template is visible as a
whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from systemvm.ssvm import recording_messages, snapshot_messages
from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.helper_call import Operation, Reply
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.properties.template import TemplateProperties
from systemvm.ssvm.store import open_file, published_templates, recordings, snapshots
from systemvm.ssvm.store.allowed_users import AGENT_USER, FETCH_USER, SERVE_USER, allow
from systemvm.ssvm.store.browse import browse
from systemvm.ssvm.store.copy_image import copy_chain, copy_image
from systemvm.ssvm.store.descriptors import list_names, opened, remove
from systemvm.ssvm.store.helper_server import serve_inherited_socket
from systemvm.ssvm.store.job_directory import (
    JOBS,
    is_abandoned,
    is_resumable,
    kept_bytes,
    make_job_directory,
    name_image,
    remove_of_others,
    rename_into_place,
    take_over_image,
    write_properties,
)
from systemvm.ssvm.store.openat2 import make_directories, open_directory
from systemvm.ssvm.store.published_templates import TEMPLATES, find_published
from systemvm.ssvm.store.quarantine import move_to_quarantine, remove_expired
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import StoreStats, TemplateListing
from systemvm.wire.transfer_failure import TransferFailure

LIST_PAGE = 400  # at most 2,000 bytes each: below the longest frame


class StoreHelper:
    """The operations; each opens what it needs beneath the mount of the store, and closes it."""

    def __init__(self, mount_root: Path) -> None:
        self._mount_root = mount_root

    def operations(self) -> dict[str, Operation]:
        """Return them by method. A cancellable one can be killed: the next call cleans up after it."""
        fetch, agent, both = allow(FETCH_USER), allow(AGENT_USER), allow(FETCH_USER, AGENT_USER)
        readers = allow(SERVE_USER, FETCH_USER)

        def of_job(params: Any) -> str:
            return str(params.job.mount_id)

        def of_store(params: Any) -> str:
            return str(params.mount_id)

        changes = messages.changes

        return {
            messages.MAKE: Operation(messages.JobKey, self.make, fetch, of_store, True, changes),
            # a group of its own: a copy takes long, and must leave the slots of its store to short calls
            messages.COPY: Operation(
                messages.StoreCopyRequest,
                self.copy,
                agent,
                lambda params: f"copy to {params.job.mount_id}",
                cancellable=True,
                exclusive=changes,
                reports=True,
            ),
            messages.DISCARD: Operation(messages.JobKey, self.discard, both, of_store, False, changes),
            messages.FIND: Operation(messages.FindRequest, self.find, agent, of_store, cancellable=True),
            messages.PUBLISH: Operation(messages.PublishRequest, self.publish, agent, of_job, False, changes),
            messages.DELETE: Operation(messages.DeleteRequest, self.delete, agent, of_store, False, changes),
            messages.STATS: Operation(messages.StatsRequest, self.stats, agent, of_store, cancellable=True),
            messages.SWEEP: Operation(messages.SweepRequest, self.sweep, agent, of_store, True, changes),
            messages.BROWSE: Operation(
                messages.BrowseStoreRequest, self.browse, agent, of_store, cancellable=True
            ),
            messages.QUARANTINE: Operation(
                messages.QuarantineRequest, self.quarantine, agent, of_store, False, changes
            ),
            # serve sends it to users, fetch has a mover copy it to a bucket
            messages.OPEN: Operation(messages.OpenRequest, self.open_image, readers, of_store, True),
            messages.OPEN_OBJECT: Operation(
                messages.OpenObjectRequest, self.open_object, allow(SERVE_USER), of_store, True
            ),
            messages.LIST: Operation(
                messages.ListRequest, self.list_templates, agent, of_store, cancellable=True
            ),
            **self._recording_operations(agent),
            **self._snapshot_operations(agent),
        }

    def _recording_operations(self, agent: Callable[[int], bool]) -> dict[str, Operation]:
        def of_recordings(params: Any) -> str:
            # a group of its own: a piece a second of each recording must not wait for templates
            return f"recordings {params.mount_id}"

        changes = recording_messages.recording_changes
        return {
            recording_messages.RECORDING_WRITE: Operation(
                recording_messages.RecordingWrite, self.write_recording, agent, of_recordings, True, changes
            ),
            recording_messages.RECORDING_CONTENT: Operation(
                recording_messages.RecordingContentRequest, self.read_recording, agent, of_recordings, True
            ),
            recording_messages.RECORDING_REMOVE: Operation(
                recording_messages.RecordingKey, self.remove_recording, agent, of_recordings, True, changes
            ),
        }

    def _snapshot_operations(self, agent: Callable[[int], bool]) -> dict[str, Operation]:
        def of_snapshots(params: Any) -> str:
            return f"snapshots {params.mount_id}"  # many pieces must leave the slots of templates free

        changes = snapshot_messages.snapshot_changes
        return {
            snapshot_messages.SNAPSHOT_WRITE: Operation(
                snapshot_messages.SnapshotWrite, self.write_snapshot, agent, of_snapshots, True
            ),
            snapshot_messages.SNAPSHOT_PUBLISH: Operation(
                snapshot_messages.SnapshotPublish, self.publish_snapshot, agent, of_snapshots, True, changes
            ),
            snapshot_messages.SNAPSHOT_ADOPT: Operation(
                snapshot_messages.SnapshotAdopt, self.adopt_snapshot, agent, of_snapshots, True, changes
            ),
            snapshot_messages.SNAPSHOT_REMOVE: Operation(
                snapshot_messages.SnapshotKey, self.remove_snapshot, agent, of_snapshots, True, changes
            ),
        }

    def write_snapshot(self, uid: int, piece: snapshot_messages.SnapshotWrite) -> Reply:
        with self._mounted(piece.mount_id) as mount:
            snapshots.write_piece(mount, piece)
        return Reply(Acknowledgement())

    def publish_snapshot(self, uid: int, end: snapshot_messages.SnapshotPublish) -> Reply:
        with self._mounted(end.mount_id) as mount:
            snapshots.publish(mount, end)
        return Reply(Acknowledgement())

    def adopt_snapshot(self, uid: int, order: snapshot_messages.SnapshotAdopt) -> Reply:
        with self._mounted(order.mount_id) as mount:
            snapshots.adopt(mount, order)
        return Reply(Acknowledgement())

    def remove_snapshot(self, uid: int, key: snapshot_messages.SnapshotKey) -> Reply:
        with self._mounted(key.mount_id) as mount:
            snapshots.remove_snapshot(mount, key)
        return Reply(Acknowledgement())

    def write_recording(self, uid: int, piece: recording_messages.RecordingWrite) -> Reply:
        with self._mounted(piece.mount_id) as mount:
            return Reply(recordings.write_piece(mount, piece))

    def read_recording(self, uid: int, wanted: recording_messages.RecordingContentRequest) -> Reply:
        with self._mounted(wanted.mount_id) as mount:
            return Reply(recordings.read_content(mount, wanted))

    def remove_recording(self, uid: int, key: recording_messages.RecordingKey) -> Reply:
        with self._mounted(key.mount_id) as mount:
            recordings.remove_recording(mount, key)
        return Reply(Acknowledgement())

    def make(self, uid: int, job: messages.JobKey) -> Reply:
        """Make the directory of a job, or find it with what it has; return it as a descriptor."""
        job_id = messages.require_name(job.job_id)
        with self._mounted(job.mount_id) as mount, self._jobs(mount, job.owner) as jobs:
            directory = make_job_directory(jobs, job_id, uid)
            state = os.fstatvfs(mount)
            made = messages.JobDirectory(state.f_bavail * state.f_frsize, kept_bytes(directory))
            return Reply(made, (directory,))

    def copy(self, uid: int, request: messages.StoreCopyRequest, report: Callable[[Any], None]) -> Reply:
        """Copy a published template or a snapshot to the directory of a job, as its image; it is resumed."""
        job_id = messages.require_name(request.job.job_id)
        with (
            self._mounted(request.source_mount_id) as source,
            self._mounted(request.job.mount_id) as mount,
            self._jobs(mount, request.job.owner) as jobs,
        ):
            remove_of_others(jobs, job_id)
            with opened(make_job_directory(jobs, job_id, os.geteuid())) as directory:
                if request.source is not None:
                    return Reply(copy_image(source, request.source, directory, request.checksum, report))
                if request.chain is not None:
                    return Reply(copy_chain(source, request.chain, directory, report))
                raise TransferError(TransferFailure.REQUEST_INVALID, "copy has no source")

    def find(self, uid: int, request: messages.FindRequest) -> Reply:
        """Find what this very job has published: a repeated order then has nothing to do."""
        with self._mounted(request.mount_id) as mount:
            found = find_published(mount, request.account_id, request.template_id, request.job_id)
        return Reply(messages.FindResult(found))

    def open_image(self, uid: int, request: messages.OpenRequest) -> Reply:
        """Open the file of a published template; return it as a descriptor that can only read."""
        with self._mounted(request.mount_id) as mount:
            opened_image, file = published_templates.open_image(
                mount, request.account_id, request.template_id
            )
        return Reply(opened_image, (file,))

    def open_object(self, uid: int, request: messages.OpenObjectRequest) -> Reply:
        """Open any file of a store as `open_image` does."""
        with self._mounted(request.mount_id) as mount:
            found, file = open_file.open_object(mount, request.path)
        return Reply(found, (file,))

    def publish(self, uid: int, request: messages.PublishRequest) -> Reply:
        """Check the image, write its properties, make both durable, and rename them into place."""
        job_id = messages.require_name(request.job.job_id)
        account, template = (messages.require_number(n) for n in (request.account_id, request.template_id))
        with self._mounted(request.job.mount_id) as mount, self._jobs(mount, request.job.owner) as jobs:
            # published already: the response to an earlier call was lost
            if found := find_published(mount, request.account_id, request.template_id, job_id):
                return Reply(found)
            published_templates.require_free_place(
                mount, request.account_id, request.template_id, request.unique_name
            )
            with opened(open_directory(jobs, job_id)) as directory:
                file_name = f"{uuid.uuid5(uuid.NAMESPACE_OID, job_id)}.{request.format.extension}"
                size_bytes = take_over_image(directory, file_name)
                properties = TemplateProperties(
                    template_id=request.template_id,
                    unique_name=request.unique_name,
                    description=request.description,
                    public=request.public,
                    hvm=request.hvm,
                    format=request.format,
                    file_name=file_name,
                    size_bytes=size_bytes,
                    virtual_size_bytes=request.virtual_size_bytes,
                    checksum=request.checksum,
                    job_id=job_id,
                )
                write_properties(directory, properties.to_text().encode("ascii"))
                os.fchown(directory, 0, 0)
                os.fchmod(directory, 0o755)
                with opened(make_directories(mount, f"{TEMPLATES}/{account}")) as parent:
                    if published_templates.is_unreadable(mount, request.account_id, request.template_id):
                        move_to_quarantine(mount, parent, template, f"{account}-{template}")
                    name_image(directory, file_name)
                    os.fsync(directory)
                    rename_into_place(jobs, job_id, parent, template)
                    os.fsync(parent)
            os.fsync(jobs)
        install = f"{TEMPLATES}/{account}/{template}/{file_name}"
        result = messages.PublishedTemplate(install, size_bytes, request.virtual_size_bytes, request.checksum)
        return Reply(result)

    def discard(self, uid: int, job: messages.JobKey) -> Reply:
        """Remove the directory of a job, if there is one."""
        job_id = messages.require_name(job.job_id)
        with self._mounted(job.mount_id) as mount, self._jobs(mount, job.owner) as jobs:
            remove(jobs, job_id)
        return Reply(Acknowledgement())

    def delete(self, uid: int, request: messages.DeleteRequest) -> Reply:
        """Remove a published template: first its name in one step, then its files."""
        account, template = (messages.require_number(n) for n in (request.account_id, request.template_id))
        with self._mounted(request.mount_id) as mount, self._jobs(mount, request.owner) as jobs:
            try:
                parent = open_directory(mount, f"{TEMPLATES}/{account}")
            except FileNotFoundError:
                return Reply(Acknowledgement())
            with opened(parent):
                removed = f"deleted-{account}-{template}"
                remove(jobs, removed)
                with suppress(FileNotFoundError):
                    os.rename(template, removed, src_dir_fd=parent, dst_dir_fd=jobs)
                    os.fsync(parent)
                remove(jobs, removed)
            with suppress(OSError), opened(open_directory(mount, TEMPLATES)) as templates:
                os.rmdir(account, dir_fd=templates)  # fails, as intended, when the account has others
        return Reply(Acknowledgement())

    def quarantine(self, uid: int, request: messages.QuarantineRequest) -> Reply:
        """Move a template that this job published out of sight; it is deleted a week later."""
        account, template = (messages.require_number(n) for n in (request.account_id, request.template_id))
        job_id = messages.require_name(request.job_id)
        with self._mounted(request.mount_id) as mount:
            if find_published(mount, request.account_id, request.template_id, job_id):
                with opened(open_directory(mount, f"{TEMPLATES}/{account}")) as parent:
                    move_to_quarantine(mount, parent, template, f"{account}-{template}")
        return Reply(Acknowledgement())

    def browse(self, uid: int, request: messages.BrowseStoreRequest) -> Reply:
        with self._mounted(request.mount_id) as mount:
            return Reply(browse(mount, request.path, request.after))

    def stats(self, uid: int, request: messages.StatsRequest) -> Reply:
        with self._mounted(request.mount_id) as mount:
            return Reply(_stats(mount))

    def sweep(self, uid: int, request: messages.SweepRequest) -> Reply:
        """Remove what ended jobs have left; return how full the store is."""
        owner = messages.require_name(request.owner)
        with self._mounted(request.mount_id) as mount, opened(make_directories(mount, JOBS, 0o700)) as root:
            for name in list_names(root):
                with (
                    suppress(NotADirectoryError, FileNotFoundError),
                    opened(open_directory(root, name)) as jobs,
                ):
                    for job_id in list_names(jobs):
                        if name != owner:
                            is_leftover = is_abandoned(jobs, job_id)
                        elif job_id in request.keep_job_ids:
                            is_leftover = False
                        else:
                            is_leftover = not (request.keep_resumable and is_resumable(jobs, job_id))
                        if is_leftover:
                            remove(jobs, job_id)
            remove_expired(mount)
            return Reply(_stats(mount))

    def list_templates(self, uid: int, request: messages.ListRequest) -> Reply:
        """List a page of published templates.

        One that cannot be read fails it, as a gap would look like a loss.
        """
        after = published_templates.parse_place(request.after) if request.after else (0, 0)
        with self._mounted(request.mount_id) as mount:
            try:
                places = [place for place in published_templates.list_places(mount) if place > after]
                page = places[:LIST_PAGE]
                listed = [published_templates.describe(mount, place) for place in page]
            except OSError as error:
                raise of_store(error, "listing the templates") from None
        more = "/".join(map(str, page[-1])) if len(places) > len(page) else ""
        return Reply(TemplateListing(listed, more))

    @contextmanager
    def _mounted(self, mount_id: str) -> Iterator[int]:
        """Open the root of a store.

        Raises: TransferError when it is not mounted: the directory is on the disk of this VM then.
        """
        path = self._mount_root / messages.require_mount_id(mount_id)
        try:
            mount = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _not_mounted() from None
        with opened(mount):
            if os.fstat(mount).st_dev == self._mount_root.stat().st_dev:
                raise _not_mounted()
            yield mount

    @contextmanager
    def _jobs(self, mount: int, owner: str) -> Iterator[int]:
        with opened(make_directories(mount, f"{JOBS}/{messages.require_name(owner)}", 0o700)) as jobs:
            yield jobs


def _stats(mount: int) -> StoreStats:
    state = os.fstatvfs(mount)
    capacity = state.f_blocks * state.f_frsize
    return StoreStats(capacity, capacity - state.f_bfree * state.f_frsize)


def _not_mounted() -> TransferError:
    return TransferError(
        TransferFailure.STORE_NOT_MOUNTED,
        "secondary storage is not mounted",
        "wait: the daemon has it mounted by storage.setup",
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="systemvm-store", description="Change secondary storage for fetch and the agent."
    )
    parser.add_argument("--mount-root", type=Path, default=Paths().mount_root, help="default: %(default)s")
    options = parser.parse_args(arguments)
    return serve_inherited_socket(StoreHelper(options.mount_root).operations())


if __name__ == "__main__":
    sys.exit(main())
