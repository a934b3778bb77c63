# SPDX-License-Identifier: Apache-2.0
"""`systemvm-store`: what is done to secondary storage as root, each call in a process forked for it.

A job works in a hidden directory of the same store, and publishing is one rename: a template is there as a
whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.helper_call import Operation, Reply
from systemvm.ssvm.mover_messages import IMAGE_NAME
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store.helper_server import serve_inherited_socket
from systemvm.ssvm.store.openat2 import make_directories, open_beneath, open_directory
from systemvm.ssvm.store.template_properties import FILE_NAME, MAX_BYTES, TemplateProperties
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import ListedTemplate, StoreStats, TemplateListing
from systemvm.wire.transfer_failure import TransferFailure

JOBS = ".systemvm-jobs"
TEMPLATES = "template/tmpl"
LIST_PAGE = 1000  # some 100 bytes each: far from the longest frame
FOREIGN_LEFTOVER_S = 24 * 3600.0  # another SSVM's job that has not moved for a day is nobody's
AGENT_USER, FETCH_USER = "systemvm-agent", "systemvm-fetch"


class StoreHelper:
    """The operations; every one opens what it needs beneath the store's mount and closes it again."""

    def __init__(self, mount_root: Path) -> None:
        self._mount_root = mount_root

    def operations(self) -> dict[str, Operation]:
        """By method. Killing one that is cancellable leaves nothing that the next call does not put right."""
        fetch, agent, both = allow(FETCH_USER), allow(AGENT_USER), allow(FETCH_USER, AGENT_USER)

        def of_job(params: Any) -> str:
            return str(params.job.mount_id)

        def of_store(params: Any) -> str:
            return str(params.mount_id)

        changes = messages.changes

        return {
            messages.MAKE: Operation(messages.JobKey, self.make, fetch, of_store, True, changes),
            messages.DISCARD: Operation(messages.JobKey, self.discard, both, of_store, False, changes),
            messages.FIND: Operation(messages.FindRequest, self.find, agent, of_store, cancellable=True),
            messages.PUBLISH: Operation(messages.PublishRequest, self.publish, agent, of_job, False, changes),
            messages.DELETE: Operation(messages.DeleteRequest, self.delete, agent, of_store, False, changes),
            messages.STATS: Operation(messages.StatsRequest, self.stats, agent, of_store, cancellable=True),
            messages.SWEEP: Operation(messages.SweepRequest, self.sweep, agent, of_store, True, changes),
            messages.LIST: Operation(
                messages.ListRequest, self.list_templates, agent, of_store, cancellable=True
            ),
        }

    def make(self, uid: int, job: messages.JobKey) -> Reply:
        """A fresh directory for a job, its caller's own, as a descriptor."""
        job_id = messages.require_name(job.job_id)
        with self._mounted(job.mount_id) as mount, self._jobs(mount, job.owner) as jobs:
            _remove(jobs, job_id)
            os.mkdir(job_id, 0o700, dir_fd=jobs)
            directory = open_directory(jobs, job_id)
            os.fchown(directory, uid, -1)
            return Reply(Acknowledgement(), (directory,))

    def find(self, uid: int, request: messages.FindRequest) -> Reply:
        """What this very job published before; a repeated order then has nothing left to do."""
        with self._mounted(request.mount_id) as mount:
            found = _find(mount, request.account_id, request.template_id, request.job_id)
        return Reply(messages.FindResult(found))

    def publish(self, uid: int, request: messages.PublishRequest) -> Reply:
        """Check the image's file, write its properties, make both durable, and rename them into place."""
        job_id = messages.require_name(request.job.job_id)
        account, template = (messages.require_number(n) for n in (request.account_id, request.template_id))
        with self._mounted(request.job.mount_id) as mount, self._jobs(mount, request.job.owner) as jobs:
            # done already when the answer to an earlier call was lost
            if found := _find(mount, request.account_id, request.template_id, job_id):
                return Reply(found)
            with _opened(open_directory(jobs, job_id)) as directory:
                file_name = f"{uuid.uuid5(uuid.NAMESPACE_OID, job_id)}.{request.format.extension}"
                size_bytes = _take_over(directory, file_name)
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
                _write_properties(directory, properties.to_text().encode("ascii"))
                os.fchown(directory, 0, 0)
                os.fchmod(directory, 0o755)
                os.fsync(directory)
            with _opened(make_directories(mount, f"{TEMPLATES}/{account}")) as parent:
                _replace(jobs, job_id, parent, template)
                os.fsync(parent)
            os.fsync(jobs)
        install = f"{TEMPLATES}/{account}/{template}/{file_name}"
        result = messages.PublishedTemplate(install, size_bytes, request.virtual_size_bytes, request.checksum)
        return Reply(result)

    def discard(self, uid: int, job: messages.JobKey) -> Reply:
        """Remove a job's directory, if there is one."""
        job_id = messages.require_name(job.job_id)
        with self._mounted(job.mount_id) as mount, self._jobs(mount, job.owner) as jobs:
            _remove(jobs, job_id)
        return Reply(Acknowledgement())

    def delete(self, uid: int, request: messages.DeleteRequest) -> Reply:
        """Remove a published template: out of sight in one step, then its files."""
        account, template = (messages.require_number(n) for n in (request.account_id, request.template_id))
        with self._mounted(request.mount_id) as mount, self._jobs(mount, request.owner) as jobs:
            try:
                parent = open_directory(mount, f"{TEMPLATES}/{account}")
            except FileNotFoundError:
                return Reply(Acknowledgement())
            with _opened(parent):
                gone = f"deleted-{account}-{template}"
                _remove(jobs, gone)
                with suppress(FileNotFoundError):
                    os.rename(template, gone, src_dir_fd=parent, dst_dir_fd=jobs)
                    os.fsync(parent)
                _remove(jobs, gone)
            with suppress(OSError), _opened(open_directory(mount, TEMPLATES)) as templates:
                os.rmdir(account, dir_fd=templates)  # fails, as it should, when the account has others
        return Reply(Acknowledgement())

    def stats(self, uid: int, request: messages.StatsRequest) -> Reply:
        with self._mounted(request.mount_id) as mount:
            return Reply(_stats(mount))

    def sweep(self, uid: int, request: messages.SweepRequest) -> Reply:
        """Remove what jobs that are no more have left; answers how full the store is then."""
        owner = messages.require_name(request.owner)
        with self._mounted(request.mount_id) as mount, _opened(make_directories(mount, JOBS, 0o700)) as root:
            for name in _names(root):
                with (
                    suppress(NotADirectoryError, FileNotFoundError),
                    _opened(open_directory(root, name)) as jobs,
                ):
                    for job_id in _names(jobs):
                        keep = (
                            job_id in request.keep_job_ids if name == owner else not _is_stale(jobs, job_id)
                        )
                        if not keep:
                            _remove(jobs, job_id)
            return Reply(_stats(mount))

    def list_templates(self, uid: int, request: messages.ListRequest) -> Reply:
        """A page of what is published. What cannot be read fails all of it: a gap would look like a loss."""
        after = _place(request.after) if request.after else (0, 0)
        with self._mounted(request.mount_id) as mount:
            try:
                places = [place for place in _published(mount) if place > after]
                page = places[:LIST_PAGE]
                listed = [_listed(mount, place) for place in page]
            except OSError as error:
                raise of_store(error, "listing the templates") from None
        more = "/".join(map(str, page[-1])) if len(places) > len(page) else ""
        return Reply(TemplateListing(listed, more))

    @contextmanager
    def _mounted(self, mount_id: str) -> Iterator[int]:
        """The root of a store; TransferError when it is not mounted: the disk below it is this VM's own."""
        path = self._mount_root / messages.require_mount_id(mount_id)
        try:
            mount = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _not_mounted() from None
        with _opened(mount):
            if os.fstat(mount).st_dev == self._mount_root.stat().st_dev:
                raise _not_mounted()
            yield mount

    @contextmanager
    def _jobs(self, mount: int, owner: str) -> Iterator[int]:
        with _opened(make_directories(mount, f"{JOBS}/{messages.require_name(owner)}", 0o700)) as jobs:
            yield jobs


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _stats(mount: int) -> StoreStats:
    state = os.fstatvfs(mount)
    capacity = state.f_blocks * state.f_frsize
    return StoreStats(capacity, capacity - state.f_bfree * state.f_frsize)


def _names(directory: int) -> list[str]:
    return sorted(os.listdir(directory))


def allow(*users: str) -> Callable[[int], bool]:
    """A rule for callers: root, and these users of the appliance."""

    def may_call(uid: int) -> bool:
        for user in users:
            with suppress(KeyError):  # not every machine has them
                if pwd.getpwnam(user).pw_uid == uid:
                    return True
        return uid == 0

    return may_call


def _properties(mount: int, install: str) -> TemplateProperties | None:
    try:
        file = open_beneath(mount, f"{install}/{FILE_NAME}", os.O_RDONLY)
    except FileNotFoundError:
        return None
    with _opened(file), suppress(TransferError, UnicodeDecodeError):
        return TemplateProperties.from_text(os.read(file, MAX_BYTES).decode("ascii"))
    return None  # what cannot be read is replaced


def _find(mount: int, account_id: int, template_id: int, job_id: str) -> messages.PublishedTemplate | None:
    account, template = (messages.require_number(number) for number in (account_id, template_id))
    install = f"{TEMPLATES}/{account}/{template}"
    properties = _properties(mount, install)
    if properties is None or properties.job_id != job_id:
        return None
    return messages.PublishedTemplate(
        f"{install}/{properties.file_name}",
        properties.size_bytes,
        properties.virtual_size_bytes,
        properties.checksum,
    )


def _place(text: str) -> tuple[int, int]:
    account, _, template = text.partition("/")
    if not (account.isdecimal() and template.isdecimal()):
        raise TransferError(TransferFailure.REQUEST_INVALID, "a page begins after ACCOUNT/TEMPLATE")
    return int(account), int(template)


def _published(mount: int) -> list[tuple[int, int]]:
    """Account and template of everything that has its place; none on a store that never had any."""
    try:
        templates = open_directory(mount, TEMPLATES)
    except FileNotFoundError:
        return []
    found = []
    with _opened(templates):
        for account in filter(str.isdecimal, _names(templates)):
            # an account's directory goes with its last template, perhaps just now
            with suppress(FileNotFoundError), _opened(open_directory(templates, account)) as directory:
                found += [(int(account), int(name)) for name in _names(directory) if name.isdecimal()]
    return sorted(found)


def _listed(mount: int, place: tuple[int, int]) -> ListedTemplate:
    account, template = place
    properties = _properties(mount, f"{TEMPLATES}/{account}/{template}")
    return ListedTemplate(account, template, "" if properties is None else properties.job_id)


def _take_over(directory: int, file_name: str) -> int:
    """Make the image root's, under its final name; its size. A link in its place is refused."""
    try:
        image = open_beneath(directory, IMAGE_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise TransferError(TransferFailure.STORE_FAILED, "the job has no image to publish") from None
    with _opened(image):
        state = os.fstat(image)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
            raise TransferError(TransferFailure.STORE_FAILED, "the job's image is not a file of its own")
        os.fchown(image, 0, 0)
        os.fchmod(image, 0o644)
        os.fsync(image)
    for name in _names(directory):
        if name != IMAGE_NAME:
            _remove(directory, name)
    os.rename(IMAGE_NAME, file_name, src_dir_fd=directory, dst_dir_fd=directory)
    return state.st_size


def _write_properties(directory: int, content: bytes) -> None:
    file = open_beneath(directory, FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with _opened(file):
        os.fchmod(file, 0o644)
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)


def _replace(jobs: int, job_id: str, parent: int, template: str) -> None:
    """Rename a job's directory to a template's; what an earlier job left there goes out of the way first."""
    old = f"replaced-{job_id}"
    with suppress(FileNotFoundError):
        os.rename(template, old, src_dir_fd=parent, dst_dir_fd=jobs)
    os.rename(job_id, template, src_dir_fd=jobs, dst_dir_fd=parent)
    _remove(jobs, old)


def _remove(directory: int, name: str) -> None:
    """Remove a file, a link or a tree; shutil walks it by descriptors and follows no link."""
    try:
        state = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(state.st_mode):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def _is_stale(jobs: int, job_id: str) -> bool:
    newest_s = os.stat(job_id, dir_fd=jobs, follow_symlinks=False).st_mtime
    with suppress(OSError):
        newest_s = max(
            newest_s, os.stat(f"{job_id}/{IMAGE_NAME}", dir_fd=jobs, follow_symlinks=False).st_mtime
        )
    return time.time() - newest_s > FOREIGN_LEFTOVER_S


def _not_mounted() -> TransferError:
    return TransferError(
        TransferFailure.STORE_NOT_MOUNTED,
        "secondary storage is not mounted",
        "storage.setup mounts it; the daemon asks for it",
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="systemvm-store", description="Changes secondary storage for fetch and the agent."
    )
    parser.add_argument("--mount-root", type=Path, default=Paths().mount_root, help="default: %(default)s")
    options = parser.parse_args(arguments)
    return serve_inherited_socket(StoreHelper(options.mount_root).operations())


if __name__ == "__main__":
    sys.exit(main())
