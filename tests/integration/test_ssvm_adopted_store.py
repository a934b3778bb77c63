# SPDX-License-Identifier: Apache-2.0
"""A store that a CloudStack has filled is listed, extended and read back by qemu-img, and never changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.ssvm.store_messages import JobKey, PublishRequest, StoreCopyRequest
from systemvm.wire.storage import ImageFormat, PublishedFile

OLD, NEW = "6f4b3c2a-1111-3222-8333-444455556666", "6f4b3c2a-1111-3222-8333-444455557777"
VIRTUAL_BYTES = 64 << 20


class Stores(StoreHelper):
    """Two stores in directories instead of mounts."""

    @contextmanager
    def _mounted(self, mount_id: str) -> Iterator[int]:
        descriptor = os.open(self._mount_root / mount_id, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def fill_as_cloudstack(store: Path) -> Path:
    """Make a template as CloudStack's agent leaves it (reference 2.3, 2.4)."""
    place = store / "template/tmpl/2/204"
    place.mkdir(parents=True)
    for name in ("snapshots", "volumes", "template/tmpl/1"):
        (store / name).mkdir(parents=True)
    image = place / "3f9c2d1e-0a6f-3f5c-8f3e-3a2a3f1d9c01.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, str(VIRTUAL_BYTES)], check=True)
    subprocess.run(
        ["qemu-io", "-c", "write -q -P 0x5a 1M 300k", "-f", "qcow2", image], check=True, capture_output=True
    )
    size = image.stat().st_size
    (place / "template.properties").write_text(
        "#\n#Tue Nov 17 10:11:12 UTC 2026\n"
        f"id=204\npublic=true\nuniquename=204-2-aa\nfilename={image.name}\ndescription=CentOS\nhvm=true\n"
        f"size={size}\nvirtualsize={VIRTUAL_BYTES}\nphysicalSize={size}\nqcow2=true\n"
        f"qcow2.filename={image.name}\nqcow2.size={size}\nqcow2.virtualsize={VIRTUAL_BYTES}\n"
    )
    return image


def state_of(store: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(store)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in store.rglob("*")
    }


def test_cloudstacks_store_is_listed_copied_and_read_back_by_qemu_img(tmp_path: Path) -> None:
    old, new = tmp_path / OLD, tmp_path / NEW
    image = fill_as_cloudstack(old)
    new.mkdir()
    before = state_of(old)
    helper = Stores(tmp_path)
    [listed] = helper.list_templates(0, messages.ListRequest(OLD)).result.templates
    assert (listed.problem, listed.format, listed.file_name) == ("", ImageFormat.QCOW2, image.name)
    assert (listed.virtual_size_bytes, listed.unique_name) == (VIRTUAL_BYTES, "204-2-aa")

    job = JobKey(NEW, "s-1-VM", "job-1")
    source = PublishedFile(listed.account_id, listed.template_id, listed.file_name)
    copied = helper.copy(0, StoreCopyRequest(job, OLD, source), lambda progress: None).result
    assert copied.checksum == f"{{SHA-256}}{before[str(image.relative_to(old))][0]}"
    order = PublishRequest(
        job, 2, 311, "204-2-aa", "CentOS", ImageFormat.QCOW2, True, True, VIRTUAL_BYTES, ""
    )
    published = helper.publish(0, order).result
    assert state_of(old) == before, "nothing of the old store is rewritten"

    there = new / published.install_path
    found = json.loads(subprocess.check_output(["qemu-img", "info", "-f", "qcow2", "--output=json", there]))
    assert (found["format"], found["virtual-size"]) == ("qcow2", VIRTUAL_BYTES)
    subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", image, there], check=True)
    [listed] = helper.list_templates(0, messages.ListRequest(NEW)).result.templates
    assert (listed.template_id, listed.problem, listed.job_id) == (311, "", "job-1")
