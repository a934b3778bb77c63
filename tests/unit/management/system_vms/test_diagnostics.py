# SPDX-License-Identifier: Apache-2.0
"""Stored diagnostics: random addresses, no path traversal, and expiry."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.system_vms.diagnostics import Diagnostics


def zipped(name: str = "fileinfo.txt") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "Files found:\n")
    return buffer.getvalue()


@pytest.fixture
def diagnostics(tmp_path: Path) -> Diagnostics:
    return Diagnostics(None, None, tmp_path / "diagnostics")  # type: ignore[arg-type]  # no test reads a row


def test_each_zip_has_its_own_address(diagnostics: Diagnostics) -> None:
    first, second = (diagnostics._keep("s-1-VM", zipped()) for _ in range(2))
    assert first.parent.name != second.parent.name
    assert len(first.parent.name) == 32
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert diagnostics.find(first.parent.name, first.name) == first


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("..", "key"),
        ("", "key"),
        ("nope", "x.zip"),
        ("{token}", ".."),
        ("{token}", "../../key"),
        ("{token}", ""),
    ],
)
def test_unknown_address_finds_no_zip(
    diagnostics: Diagnostics, tmp_path: Path, token: str, name: str
) -> None:
    (tmp_path / "key").write_text("canary")
    kept = diagnostics._keep("s-1-VM", zipped())
    assert diagnostics.find(token.format(token=kept.parent.name), name) is None


@pytest.mark.parametrize("data", [b"", b"no zip", zipped()[:-10]])
def test_invalid_zip_is_rejected(diagnostics: Diagnostics, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(HypervisorError, match="sent an invalid zip"):
        diagnostics._keep("s-1-VM", data)
    assert not (tmp_path / "diagnostics").exists()


def test_old_zips_are_deleted(diagnostics: Diagnostics) -> None:
    old, new = (diagnostics._keep("s-1-VM", zipped()) for _ in range(2))
    os.utime(old.parent, (0, 0))
    diagnostics.forget_old()
    assert not old.parent.exists()
    assert new.is_file()
