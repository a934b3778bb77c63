# SPDX-License-Identifier: Apache-2.0
"""The static files of the console page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from systemvm.cpvm.assets import MAX_FILE_BYTES, AssetError, Assets


@pytest.fixture
def novnc(tmp_path: Path) -> Path:
    (tmp_path / "core" / "util").mkdir(parents=True)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "core" / "rfb.js").write_text("export default 1;")
    (tmp_path / "core" / "util" / "int.js").write_text("")
    (tmp_path / "vendor" / "README.md").write_text("")
    (tmp_path / "package.json").write_text("{}")
    return tmp_path


def test_every_file_has_its_path(novnc: Path) -> None:
    assets = Assets.load(novnc)
    own = {path for path in assets.files if not path.startswith("/novnc/")}
    assert {"/console.css", "/console.js", "/console.svg", "/keymaps/de.json"} <= own
    assert not any(path.endswith(".html") for path in own)
    assert set(assets.files) - own == {"/novnc/core/rfb.js", "/novnc/core/util/int.js"}
    assert assets.files["/keymaps/de.json"].content_type == "application/json"


def test_pages_contain_nothing_that_their_policy_forbids(novnc: Path) -> None:
    assets = Assets.load(novnc)
    for page in (assets.page.content.decode(), assets.refused.content.decode()):
        assert "style=" not in page
        assert "<style" not in page
        assert not re.search(r"\son\w+=", page)
        assert not re.search(r"<script(?![^>]*\ssrc=)", page)
        for address in re.findall(r'(?:src|href)="([^"]*)"', page):
            assert address.removeprefix("{base}") in assets.files
    assert b"{title}" in assets.refused.content
    assert b"{hint}" in assets.refused.content


@pytest.mark.parametrize("where", ["core/evil.js", "core/evil", "vendor"])
def test_symbolic_links_are_refused(novnc: Path, where: str) -> None:
    link = novnc / where
    if link.is_dir():
        (link / "README.md").unlink()
        link.rmdir()
    link.symlink_to("/etc")
    with pytest.raises(AssetError, match="symbolic link"):
        Assets.load(novnc)


def test_missing_novnc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="noVNC is missing"):
        Assets.load(tmp_path)


def test_a_file_over_the_limit_is_refused(novnc: Path) -> None:
    (novnc / "core" / "big.js").write_bytes(bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(AssetError, match="too large"):
        Assets.load(novnc)
