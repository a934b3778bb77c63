# SPDX-License-Identifier: Apache-2.0
"""`make install` and `make uninstall` below a directory: what they leave, and that it is enough to run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "systemvm", "systemvm-managementd", "systemvm-nethelper", "systemvm-mounthelper", "systemvm-launcher",
    "systemvm-guestnet",
}  # fmt: skip
#: They stay in memory while the daemon is replaced.
RESIDENT = {f"systemvm-{name}.service" for name in ("nethelper", "mounthelper", "launcher", "guestnet")}
#: Imports the module of each program and prints what it came from, and what the distribution says of itself.
IMPORT = """
import importlib, json, sys
from importlib.metadata import requires, version
sys.path[:0] = sys.argv[1:]
names = ("cli", "management", "nethelper", "mounthelper", "launcher", "guestnet")
modules = [importlib.import_module(f"systemvm.{name}.__main__").__file__ for name in names]
json.dump([modules, version("systemvm"), requires("systemvm")], sys.stdout)
"""

pytestmark = pytest.mark.timeout(900)


def run(script: str, root: Path, images: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DESTDIR": str(root), "IMAGES": str(images), "PYTHON": sys.executable}
    return subprocess.run(
        [TOP / "systemd/host" / script],
        env=environment,
        text=True,
        capture_output=True,
        timeout=800,
        umask=0o077,
    )


def is_readable(path: Path) -> bool:
    """Return whether every user can read a file, or use a directory."""
    wanted = 0o005 if path.is_dir() else 0o004
    return path.is_symlink() or path.stat().st_mode & wanted == wanted


def test_helpers_that_run_are_restarted_before_the_daemon_is() -> None:
    _, _, on_this_host = (TOP / "systemd/host/install.sh").read_text().partition("install: done below")
    before, _, last = on_this_host.partition("restart the daemon")
    assert last, "the daemon's restart is the operator's"
    [restarted] = re.findall(r"systemctl try-restart ((?:[\w.-]+|\\\n|\s)+?)\nfi", before)
    assert set(restarted.replace("\\\n", " ").split()) == RESIDENT
    assert before.index("daemon-reload") < before.index("try-restart")
    for unit in RESIDENT:
        assert (TOP / "systemd/host" / unit).exists()


def test_a_host_is_installed_replaced_and_uninstalled(tmp_path: Path) -> None:
    root, images = tmp_path / "root", tmp_path / "images"
    images.mkdir()
    refused = run("install.sh", root, images)
    assert refused.returncode == 1 and "hint:  run make images first" in refused.stderr
    assert not root.exists()

    for role in ("ssvm", "cpvm"):
        (images / f"{role}.manifest.json").write_text("{}")
        (images / f"{role}.manifest.json").chmod(0o600)
    stale = root / "usr/lib/systemvm/agents/systemvm/of_an_earlier_release.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    kept = root / "etc/systemvm/host.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    installed = run("install.sh", root, images)
    assert installed.returncode == 0, installed.stderr
    lib = root / "usr/lib/systemvm"
    assert not stale.exists() and sorted(path.name for path in lib.parent.glob("systemvm*")) == ["systemvm"]
    assert {path.name for path in (root / "usr/bin").iterdir()} == PROGRAMS
    assert (lib / "images/ssvm.manifest.json").read_text() == "{}"
    assert [path for path in lib.rglob("*") if not is_readable(path)] == []
    assert all(is_readable(path) for path in (root / "usr/bin").iterdir())
    units = {path.name for path in (root / "usr/lib/systemd/system").iterdir()}
    assert units == {
        path.name for path in (TOP / "systemd/host").iterdir() if path.suffix in (".service", ".socket")
    }
    assert "systemvm-qemu" in (root / "etc/passwd").read_text()

    # the host's own Python, and no package but those that were installed
    imported = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", IMPORT, lib / "agents", lib / "packages"],
        text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    modules, version, requirements = json.loads(imported.stdout)
    assert all(module.startswith(str(lib / "agents")) for module in modules)
    assert (version, requirements) == (metadata.version("systemvm"), metadata.requires("systemvm"))
    assert not list(lib.glob("agents/*.egg-info"))

    assert run("uninstall.sh", root, images).returncode == 0
    assert not lib.exists() and not list((root / "usr/bin").iterdir())
    assert not list((root / "usr/lib/systemd/system").iterdir())
    assert kept.read_text() == "kept"
