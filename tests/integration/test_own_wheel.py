# SPDX-License-Identifier: Apache-2.0
"""The wheel of the agents' code that an image gets, made by the real build backend."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "packer"))
import payload  # noqa: E402
from appliance import load  # noqa: E402

from systemvm.host import guest_code  # noqa: E402
from systemvm.wire.role import Role  # noqa: E402


def test_our_own_wheel_has_the_appliances_packages_and_does_not_depend_on_the_checkouts_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, appliance = tmp_path / "tree", load("cpvm")
    for name in (*appliance.packages_of_ours, "ssvm", "management"):
        (tree / "agents/systemvm" / name).mkdir(parents=True)
        (tree / "agents/systemvm" / name / "__init__.py").write_text("")
    (tree / "agents/systemvm/guest/version.py").write_text('VERSION = "1.2.3"\n')
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(TOP / name, tree / name)
    (tree / "agents/systemvm/__init__.py").write_text("")
    monkeypatch.setattr(payload, "TOP", tree)
    wheel = payload.build_own_wheel(appliance, tmp_path / "first")
    first = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as files:
        version = files.read("systemvm/guest/version.py").decode()
        packages = {name.split("/")[1] for name in files.namelist() if name.startswith("systemvm/")}
    assert packages == {"__init__.py", "wire", "web", "rpc", "service", "guest", "recording", "cpvm"}
    assert version == f'VERSION = "{guest_code.read(Role.CPVM, tree / "agents").version}"\n'
    assert "1.2.3+" in version
    for path in tree.rglob("*"):
        path.chmod(path.stat().st_mode | 0o020)
    assert payload.build_own_wheel(appliance, tmp_path / "second").read_bytes() == first
