# SPDX-License-Identifier: Apache-2.0
"""Operations of the store helper: idempotent publishing, and exclusive keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.ssvm.store_messages import (
    DeleteRequest,
    FindRequest,
    JobKey,
    PublishedTemplate,
    PublishRequest,
    StatsRequest,
)
from systemvm.wire.storage import ImageFormat

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"
JOB = JobKey(MOUNT_ID, "s-1-VM", "job-1")
PUBLISH = PublishRequest(
    JOB, 2, 204, "204-2-test", "A test", ImageFormat.RAW, True, False, 512, "{SHA-512}00"
)


class HelperWithoutMount(StoreHelper):
    """A store in a plain directory instead of a mount."""

    @contextmanager
    def _mounted(self, mount_id: str) -> Iterator[int]:
        descriptor = os.open(self._mount_root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@pytest.mark.skipif(os.getuid() != 0, reason="publishing changes the owner to root")
def test_publishing_twice_answers_the_same_and_keeps_the_image(tmp_path: Path) -> None:
    helper = HelperWithoutMount(tmp_path)
    (directory,) = helper.make(0, JOB).descriptors
    Path(f"/proc/self/fd/{directory}/image").write_bytes(bytes(512))
    os.close(directory)
    first = helper.publish(0, PUBLISH).result
    assert isinstance(first, PublishedTemplate)
    before = (tmp_path / first.install_path).stat()
    assert helper.publish(0, PUBLISH).result == first
    after = (tmp_path / first.install_path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert helper.find(0, FindRequest(MOUNT_ID, "job-1", 2, 204)).result.published == first
    assert helper.find(0, FindRequest(MOUNT_ID, "job-2", 2, 204)).result.published is None


def test_changes_of_one_template_exclude_each_other() -> None:
    operations = StoreHelper(Path("/nowhere")).operations()
    publish, discard = operations[messages.PUBLISH], operations[messages.DISCARD]
    delete, find = operations[messages.DELETE], operations[messages.FIND]
    published = publish.exclusive(PUBLISH)
    assert published & discard.exclusive(JOB)
    assert published & delete.exclusive(DeleteRequest(MOUNT_ID, "s-1-VM", 2, 204))
    assert not published & delete.exclusive(DeleteRequest(MOUNT_ID, "s-1-VM", 2, 205))
    assert find.exclusive(FindRequest(MOUNT_ID, "job-1", 2, 204)) == frozenset()
    assert operations[messages.STATS].exclusive(StatsRequest(MOUNT_ID)) == frozenset()
