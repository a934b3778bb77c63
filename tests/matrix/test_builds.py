# SPDX-License-Identifier: Apache-2.0
"""A second, offline build of the same tree gives the same image except for the listed paths."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from image.built_image import IMAGES, TOP

import difference  # isort: skip  - packer/ is on the path once built_image is imported
from stamps import sha256_of  # isort: skip

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]
ROLE = "cpvm"


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (TOP / name).exists()]


@pytest.fixture(scope="module")
def other_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree without built files."""
    top = tmp_path_factory.mktemp("tree")
    for name in tracked_files():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, top / name)
    (top / ".venv").symlink_to(TOP / ".venv")
    return top


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a network namespace without a route."""
    return subprocess.run(
        ["unshare", "--net", "--", "make", "-C", tree, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "LOCKED": ""},
    )  # fmt: skip


def test_an_offline_build_without_a_cache_reports_everything_missing(other_tree: Path) -> None:
    done = make(other_tree, "images", "OFFLINE=1", f"CACHE={other_tree}/nothing")
    assert done.returncode != 0
    for missing in ("Debian package systemd ", "wheel twisted==", "noVNC "):
        assert missing in done.stderr
    assert "hint:  run `make fetch`" in done.stderr
    assert not (other_tree / "build/base").exists()


@pytest.fixture(scope="module")
def second_build(other_tree: Path) -> Path:
    """The build directory of the copy, with one role's image made only from this tree's cache."""
    done = make(other_tree, "images", "OFFLINE=1", f"ROLES={ROLE}", f"CACHE={TOP / 'build/cache'}")
    assert done.returncode == 0, done.stdout + done.stderr
    return other_tree / "build"


def test_an_offline_build_gives_the_same_root_kernel_and_initial_file_system(second_build: Path) -> None:
    manifests = [
        json.loads((images / f"{ROLE}.manifest.json").read_text())
        for images in (IMAGES, second_build / "images")
    ]
    for key in ("root_sha256", "inputs", "append", "version", "arch"):
        assert manifests[0][key] == manifests[1][key], key
    for kind in ("vmlinuz", "initrd", "spdx.json"):
        name = f"{ROLE}.{kind}"
        assert manifests[0]["sha256"][name] == manifests[1]["sha256"][name], name
    assert sha256_of(second_build / f"base/{ROLE}.tar") == manifests[1]["root_sha256"]


def test_two_builds_differ_only_in_listed_paths(second_build: Path, tmp_path: Path) -> None:
    name = f"{ROLE}.qcow2"
    found = difference.compare(IMAGES / name, second_build / "images" / name, tmp_path)
    assert [item for item in found if not item.reason] == []
