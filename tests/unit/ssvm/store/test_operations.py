# SPDX-License-Identifier: Apache-2.0
"""Operations of the store helper: idempotent publishing, and exclusive keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import IMAGE_NAME, JOURNAL_NAME
from systemvm.ssvm.store import browse
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.ssvm.store.quarantine import KEPT_S, QUARANTINE, remove_expired
from systemvm.ssvm.store_messages import (
    BrowseStoreRequest,
    DeleteRequest,
    FindRequest,
    JobKey,
    PublishedTemplate,
    PublishRequest,
    QuarantineRequest,
    StatsRequest,
)
from systemvm.wire.storage import ImageFormat, StoreObjects
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.store.helper_without_mount import HelperWithoutMount

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"
JOB = JobKey(MOUNT_ID, "s-1-VM", "job-1")
NOBODY = 65534
PUBLISH = PublishRequest(
    JOB, 2, 204, "204-2-test", "A test", ImageFormat.RAW, True, False, 512, "{SHA-512}00"
)


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


class KilledError(BaseException):
    """The end of the helper, or of the whole VM, in front of a system call."""


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the next change of the store but `number` be the last one."""
    left = number

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **how: Any) -> Any:
            nonlocal left
            if not left:
                raise KilledError
            left -= 1
            return call(*arguments, **how)

        return counted

    for name in ("mkdir", "rename", "unlink", "rmdir", "write", "fchown", "fchmod", "fsync"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))


@pytest.mark.skipif(os.getuid() != 0, reason="publishing changes the owner to root")
@pytest.mark.parametrize("is_asked_again", [True, False], ids=["published again", "downloaded again"])
def test_publishing_that_is_killed_at_any_point_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_asked_again: bool
) -> None:
    """Asked again it ends the same; a mover that continues instead finds image and journal as they were."""
    lost = 0
    for number in range(100):
        store = tmp_path / f"{number}"
        store.mkdir()
        helper = HelperWithoutMount(store)
        replaced = published(helper, "job-0")
        (directory,) = helper.make(NOBODY, JOB).descriptors
        job = store / ".systemvm-jobs/s-1-VM/job-1"
        for name in (IMAGE_NAME, JOURNAL_NAME):
            (job / name).write_bytes(name.encode() * 100)
            os.chown(job / name, NOBODY, -1)
        os.close(directory)
        with monkeypatch.context() as patched:
            killed_at(patched, number)
            try:
                helper.publish(0, PUBLISH)
            except KilledError:
                pass
            else:
                break
        if is_asked_again:
            result = helper.publish(0, PUBLISH).result
            assert (store / result.install_path).read_bytes() == IMAGE_NAME.encode() * 100
            assert sorted(tree(store)) == sorted(
                [result.install_path.removeprefix("template/"), "tmpl/2/204/template.properties"]
            )
            assert result.install_path != replaced.install_path
            continue
        os.close(helper.make(NOBODY, JOB).descriptors[0])
        if helper.find(0, FindRequest(MOUNT_ID, "job-1", 2, 204)).result.published is None:
            kept = [job / name for name in (IMAGE_NAME, JOURNAL_NAME)]
            lost += not all(path.exists() and path.stat().st_uid == NOBODY for path in kept)
    else:
        pytest.fail("publishing never ends")
    assert number > 15
    # only between the removal of the journal and the rename into place, with two more changes in between
    assert lost <= 8


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


def published(
    helper: StoreHelper, job_id: str = "job-1", unique_name: str = "204-2-test"
) -> PublishedTemplate:
    job = JobKey(MOUNT_ID, "s-1-VM", job_id)
    (directory,) = helper.make(0, job).descriptors
    Path(f"/proc/self/fd/{directory}/image").write_bytes(bytes(512))
    os.close(directory)
    result = helper.publish(0, evolve(PUBLISH, job=job, unique_name=unique_name)).result
    assert isinstance(result, PublishedTemplate)
    return result


def tree(directory: Path) -> dict[str, bytes]:
    """Return every file below the templates."""
    top = directory / "template"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.getuid() != 0, reason="what is published becomes root's")
def test_the_place_of_another_clouds_template_is_never_taken(tmp_path: Path) -> None:
    helper = HelperWithoutMount(tmp_path)
    published(helper, unique_name="204-2-foreign")
    before = tree(tmp_path)
    with pytest.raises(TransferError, match="belongs to another template: 204-2-foreign"):
        published(helper, "job-2")
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.getuid() != 0, reason="what is published becomes root's")
def test_what_cannot_be_read_at_a_place_goes_to_the_quarantine_for_a_week(tmp_path: Path) -> None:
    helper = HelperWithoutMount(tmp_path)
    place = tmp_path / "template/tmpl/2/204"
    place.mkdir(parents=True)
    (place / "dnld123tmp_").write_bytes(b"a download of another cloud")
    published(helper)
    assert len(tree(tmp_path)) == 2
    [kept] = (tmp_path / QUARANTINE).iterdir()
    assert (kept / "dnld123tmp_").read_bytes() == b"a download of another cloud"
    mount = os.open(tmp_path, os.O_RDONLY)
    try:
        assert remove_expired(mount) == 0
        assert remove_expired(mount, lambda: time.time() + KEPT_S + 60) == 1
    finally:
        os.close(mount)
    assert list((tmp_path / QUARANTINE).iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="what is published becomes root's")
def test_only_what_a_job_has_published_is_quarantined(tmp_path: Path) -> None:
    helper = HelperWithoutMount(tmp_path)
    published(helper)
    before = tree(tmp_path)
    helper.quarantine(0, QuarantineRequest(MOUNT_ID, 2, 204, "job-2"))
    assert tree(tmp_path) == before
    helper.quarantine(0, QuarantineRequest(MOUNT_ID, 2, 204, "job-1"))
    assert tree(tmp_path) == {}
    helper.quarantine(0, QuarantineRequest(MOUNT_ID, 2, 204, "job-1"))  # repeated: nothing is left to do


def test_a_directory_is_browsed_by_pages_and_no_path_leaves_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = HelperWithoutMount(tmp_path)
    (tmp_path / "template/tmpl").mkdir(parents=True)
    for name in ("a", "b", "ü c"):
        (tmp_path / "template" / name).write_bytes(b"12345")
    monkeypatch.setattr(browse, "PAGE", 2)

    def page(path: str, after: str = "") -> StoreObjects:
        result = helper.browse(0, BrowseStoreRequest(MOUNT_ID, path, after)).result
        assert isinstance(result, StoreObjects)
        return result

    first = page("/template/")
    assert [(each.name, each.size_bytes) for each in first.objects] == [("a", 5), ("b", 5)]
    second = page("template", first.next)
    assert [(each.name, each.is_directory) for each in second.objects] == [("tmpl", True), ("ü c", False)]
    assert second.next == ""
    assert [each.name for each in page("template/a").objects] == ["a"]
    (tmp_path / "link").symlink_to("/etc")
    for path, code in (
        ("..", TransferFailure.REQUEST_INVALID),
        ("template/../..", TransferFailure.REQUEST_INVALID),
        ("link/passwd", TransferFailure.STORE_FAILED),
        ("template/none", TransferFailure.SOURCE_MISSING),
        ("template/a/b", TransferFailure.SOURCE_MISSING),
    ):
        with pytest.raises(TransferError) as refused:
            page(path)
        assert refused.value.code is code, path
