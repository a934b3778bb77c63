# SPDX-License-Identifier: Apache-2.0
"""Templates on primary storage: a deletion waits for the copy in progress."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from twisted.internet.defer import Deferred

from systemvm.management.primary.storage import PrimaryStorage

TEMPLATE = "6e25e5a4-51ab-4d4c-9f10-6a8bb1c2a3d4"


@pytest_twisted.ensureDeferred
async def test_deletion_and_copy_run_one_after_another(tmp_path: Path) -> None:
    primary = PrimaryStorage(tmp_path / "primary")
    primary.open()
    source = tmp_path / "boot.iso"
    source.write_bytes(b"iso" * 1000)
    copying = Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, source, "iso"))
    deleting = Deferred.fromCoroutine(primary.delete_template(TEMPLATE))
    path = await copying
    await deleting
    assert not path.exists()
    deleting = Deferred.fromCoroutine(primary.delete_template(TEMPLATE))
    again = Deferred.fromCoroutine(primary.ensure_template(TEMPLATE, source, "iso"))
    await deleting
    assert (await again).read_bytes() == source.read_bytes()
    await primary.delete_template(TEMPLATE)
    await primary.delete_template(TEMPLATE)
    assert list((tmp_path / "primary/templates").iterdir()) == []
