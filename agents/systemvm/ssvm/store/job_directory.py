# SPDX-License-Identifier: Apache-2.0
"""The hidden directory that a job works in, and how it becomes a published template: by one rename."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import IMAGE_NAME, JOURNAL_NAME
from systemvm.ssvm.properties.template import FILE_NAME
from systemvm.ssvm.store.descriptors import list_names, opened, remove
from systemvm.ssvm.store.openat2 import open_beneath, open_directory
from systemvm.wire.transfer_failure import TransferFailure

JOBS = ".systemvm-jobs"
_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
ABANDONED_AFTER_S = 24 * 3600.0  # a directory of another SSVM that has not changed for a day has no job


def take_over_image(directory: int, file_name: str) -> int:
    """Give the image to root, remove all files but it and its journal, and return its size in bytes.

    An earlier call that was cut off can have given it `file_name` already.

    Raises: TransferError when there is no image, or when it is a link or has another name elsewhere.
    """
    name, image = _open_image(directory, file_name)
    with opened(image):
        state = _require_plain(image)
        os.fchown(image, 0, 0)
        os.fchmod(image, 0o644)
        os.fsync(image)
    for other in list_names(directory):
        if other not in (name, JOURNAL_NAME):
            remove(directory, other)
    return state.st_size


def name_image(directory: int, file_name: str) -> None:
    """Give the image its final name; as its journal goes with that, it is the last step before the rename."""
    remove(directory, JOURNAL_NAME)
    with suppress(FileNotFoundError):
        os.rename(IMAGE_NAME, file_name, src_dir_fd=directory, dst_dir_fd=directory)


def _open_image(directory: int, file_name: str) -> tuple[str, int]:
    for name in (IMAGE_NAME, file_name):
        with suppress(FileNotFoundError):
            return name, open_beneath(directory, name, _OPEN_FLAGS)
    raise TransferError(TransferFailure.STORE_FAILED, "the job has no image to publish")


def _require_plain(image: int) -> os.stat_result:
    state = os.fstat(image)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
        raise TransferError(
            TransferFailure.STORE_FAILED, "the image of the job is not a regular file with one name"
        )
    return state


def write_properties(directory: int, content: bytes) -> None:
    """Write template.properties, durably."""
    file = open_beneath(directory, FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with opened(file):
        os.fchmod(file, 0o644)
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)


def rename_into_place(jobs: int, job_id: str, parent: int, template: str) -> None:
    """Rename a job's directory to that of a template; what an earlier job published there is removed."""
    old = f"replaced-{job_id}"
    with suppress(FileNotFoundError):
        os.rename(template, old, src_dir_fd=parent, dst_dir_fd=jobs)
    os.rename(job_id, template, src_dir_fd=jobs, dst_dir_fd=parent)
    remove(jobs, old)


def make_job_directory(jobs: int, job_id: str, uid: int) -> int:
    """Return a descriptor of a job's directory, which belongs to `uid`; one that is there is kept."""
    for _ in range(2):
        with suppress(FileExistsError):
            os.mkdir(job_id, 0o700, dir_fd=jobs)
            os.fsync(jobs)  # its journal must be found after a power cut
        try:
            directory = open_directory(jobs, job_id)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            remove(jobs, job_id)  # another client's: a job has nothing to continue there
        else:
            os.fchown(directory, uid, -1)
            os.fchmod(directory, 0o700)
            _give_back_image(directory, uid)
            return directory
    raise TransferError(TransferFailure.STORE_FAILED, f"{job_id} is not a directory")


def _give_back_image(directory: int, uid: int) -> None:
    """Let the next mover continue an image that became root's when its publishing was cut off."""
    with suppress(OSError), opened(open_beneath(directory, IMAGE_NAME, _OPEN_FLAGS)) as image:
        state = os.fstat(image)
        if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 and state.st_uid != uid:
            os.fchown(image, uid, -1)


def remove_of_others(jobs: int, job_id: str) -> None:
    """Remove a job's directory unless it belongs to this process's user.

    A mover that wrote in it could still have its files open.
    """
    with suppress(FileNotFoundError):
        if os.stat(job_id, dir_fd=jobs, follow_symlinks=False).st_uid != os.geteuid():
            remove(jobs, job_id)


def kept_bytes(directory: int) -> int:
    """Return how much space the image takes that an earlier mover has left in a job's directory."""
    try:
        state = os.stat(IMAGE_NAME, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return state.st_blocks * 512 if stat.S_ISREG(state.st_mode) else 0


def is_resumable(jobs: int, job_id: str) -> bool:
    """Whether a job can continue from its journal, which has changed within a day."""
    try:
        journal = os.stat(f"{job_id}/{JOURNAL_NAME}", dir_fd=jobs, follow_symlinks=False)
    except OSError:
        return False
    return time.time() - journal.st_mtime <= ABANDONED_AFTER_S


def is_abandoned(jobs: int, job_id: str) -> bool:
    """Whether neither the directory nor its image has changed for a day."""
    newest_s = os.stat(job_id, dir_fd=jobs, follow_symlinks=False).st_mtime
    with suppress(OSError):
        image = os.stat(f"{job_id}/{IMAGE_NAME}", dir_fd=jobs, follow_symlinks=False)
        newest_s = max(newest_s, image.st_mtime)
    return time.time() - newest_s > ABANDONED_AFTER_S
