# SPDX-License-Identifier: Apache-2.0
"""Opening a template's file for reading: only a regular file beneath the store, by numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.store.helper_without_mount import HelperWithoutMount

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"
REQUEST = messages.OpenRequest(MOUNT_ID, 2, 204)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "template/tmpl/2/204"
    made.mkdir(parents=True)
    (made / "template.properties").write_text(
        "id=204\nuniquename=204-2-x\nfilename=image.raw\nraw=true\nraw.filename=image.raw\nraw.size=3\n"
        "raw.virtualsize=3\nsize=3\nvirtualsize=3\npublic=true\nhvm=true\ndescription=x\nchecksum=\n"
    )
    return made


def refusal(tmp_path: Path) -> TransferFailure:
    with pytest.raises(TransferError) as refused:
        HelperWithoutMount(tmp_path).open_image(0, REQUEST)
    return refused.value.code


def test_file_is_opened_for_reading_only(tmp_path: Path, directory: Path) -> None:
    (directory / "image.raw").write_bytes(b"abc")
    reply = HelperWithoutMount(tmp_path).open_image(0, REQUEST)
    (file,) = reply.descriptors
    assert (os.pread(file, 10, 0), reply.result.size_bytes) == (b"abc", 3)
    with pytest.raises(OSError):
        os.pwrite(file, b"x", 0)
    os.close(file)
    (directory / "image.raw").write_bytes(b"abd")
    os.utime(directory / "image.raw", ns=(1, 1))
    again = HelperWithoutMount(tmp_path).open_image(0, REQUEST)
    os.close(again.descriptors[0])
    assert again.result.entity_tag != reply.result.entity_tag


def test_cloudstacks_file_is_found_by_its_properties(tmp_path: Path, directory: Path) -> None:
    """Its agent writes other keys than ours, and a comment."""
    (directory / "template.properties").write_text(
        "#\n#Tue Nov 17 10:11:12 UTC 2026\nid=204\nuniquename=204-2-aa\nqcow2=true\nqcow2.filename=a.qcow2\n"
        "qcow2.size=3\nqcow2.virtualsize=4096\nvirtualsize=4096\nsize=3\nphysicalSize=3\n"
    )
    (directory / "a.qcow2").write_bytes(b"abc")
    reply = HelperWithoutMount(tmp_path).open_image(0, REQUEST)
    (file,) = reply.descriptors
    assert os.pread(file, 10, 0) == b"abc"
    os.close(file)


def test_anything_but_a_file_of_the_store_is_lost(tmp_path: Path, directory: Path) -> None:
    image = directory / "image.raw"
    assert refusal(tmp_path) is TransferFailure.LOST
    image.symlink_to("/etc/passwd")
    assert refusal(tmp_path) is TransferFailure.LOST
    image.unlink()
    image.mkdir()
    assert refusal(tmp_path) is TransferFailure.LOST
    image.rmdir()
    os.mkfifo(image)
    assert refusal(tmp_path) is TransferFailure.LOST


def test_template_that_is_not_there_is_lost(tmp_path: Path) -> None:
    assert refusal(tmp_path) is TransferFailure.LOST


def test_only_serve_and_root_may_open() -> None:
    operation = StoreHelper(Path("/nowhere")).operations()[messages.OPEN]
    assert operation.may_call(0)
    assert not operation.may_call(os.getuid() + 12345)


@pytest.mark.parametrize("path", ["snapshots/2/7/x.qcow2", "/snapshots/2/7/x.qcow2/"])
def test_any_file_of_a_store_is_opened_for_reading_only(tmp_path: Path, path: str) -> None:
    file = tmp_path / "snapshots/2/7/x.qcow2"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    reply = HelperWithoutMount(tmp_path).open_object(0, messages.OpenObjectRequest(MOUNT_ID, path))
    (descriptor,) = reply.descriptors
    assert (os.pread(descriptor, 10, 0), reply.result.size_bytes) == (b"abc", 3)
    with pytest.raises(OSError):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", TransferFailure.REQUEST_INVALID),
        ("/", TransferFailure.REQUEST_INVALID),
        ("..", TransferFailure.REQUEST_INVALID),
        ("a/../outside", TransferFailure.REQUEST_INVALID),
        ("a//file", TransferFailure.REQUEST_INVALID),
        ("a/./file", TransferFailure.REQUEST_INVALID),
        (".systemvm-jobs/s-1-VM/job/image", TransferFailure.REQUEST_INVALID),
        ("a/\0", TransferFailure.REQUEST_INVALID),
        ("a" * 1025, TransferFailure.REQUEST_INVALID),
        ("a", TransferFailure.LOST),
        ("missing", TransferFailure.LOST),
        ("a/file/below", TransferFailure.LOST),
        ("a/link", TransferFailure.LOST),
        ("a/fifo", TransferFailure.LOST),
        ("linked/file", TransferFailure.LOST),
    ],
)
def test_what_is_no_file_of_the_store_is_not_opened(tmp_path: Path, path: str, code: TransferFailure) -> None:
    store = tmp_path / "store"
    (store / "a").mkdir(parents=True)
    (store / "a/file").write_bytes(b"abc")
    (store / "a/link").symlink_to(store / "a/file")
    (store / "linked").symlink_to(store / "a")
    os.mkfifo(store / "a/fifo")
    with pytest.raises(TransferError) as refused:
        HelperWithoutMount(store).open_object(0, messages.OpenObjectRequest(MOUNT_ID, path))
    assert refused.value.code is code
