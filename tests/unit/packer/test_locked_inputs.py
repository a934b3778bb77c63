# SPDX-License-Identifier: Apache-2.0
"""The committed lock of Debian packages, deviations from it, and allowed differences of two images."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

TOP = Path(__file__).parents[3]
sys.path.insert(0, str(TOP / "packer"))
import deb_lock  # noqa: E402
import difference  # noqa: E402
import sbom  # noqa: E402
from appliance import ROLES, load  # noqa: E402
from cache import GUEST_LOCK, wheel_hashes  # noqa: E402
from deb_lock import Deb, DebLock  # noqa: E402
from difference import differences  # noqa: E402
from image_files import Entry  # noqa: E402
from npm_package import NPM_PACKAGES  # noqa: E402

from systemvm.host import guest_code  # noqa: E402
from systemvm.wire.role import Role  # noqa: E402

A = Deb("a", "1:1.0-1", "amd64", 10, "aa", ("cpvm", "ssvm"))
B = Deb("b", "2.0", "all", 20, "bb", ("ssvm",))


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
@pytest.mark.parametrize("role", ROLES)
def test_every_listed_package_is_locked(role: str, architecture: str) -> None:
    lock = deb_lock.committed(architecture).of_role(role)
    assert set(load(role, architecture).debian_packages) <= {deb.name for deb in lock}
    assert all(len(deb.sha256) == 64 and deb.size_bytes > 0 for deb in lock)


@pytest.mark.parametrize("role", ROLES)
def test_an_image_has_the_packages_that_a_patch_replaces(role: str) -> None:
    assert tuple(load(role).packages_of_ours) == guest_code.packages_of(Role(role))


@pytest.mark.parametrize("role", guest_code.OF_ROLE)
def test_an_appliance_has_every_package_of_ours_that_its_code_imports(role: Role) -> None:
    imported = re.compile(r"^\s*(?:from|import) systemvm\.(\w+)", re.MULTILINE)
    files = guest_code.read(role, TOP / "agents").files
    wanted = {
        name
        for path, code in files.items()
        if path.endswith(".py")
        for name in imported.findall(code.decode())
    }
    assert wanted <= set(guest_code.packages_of(role))


def test_locks_contain_hashes_and_no_addresses() -> None:
    npm_locks = {package.lock for package in NPM_PACKAGES}
    for path in (deb_lock.lock_path("amd64"), deb_lock.lock_path("arm64"), GUEST_LOCK, *npm_locks):
        assert "://" not in path.read_text()
    assert all(wheel_hashes(GUEST_LOCK).values())
    assert all(package.integrity.startswith("sha512-") for package in NPM_PACKAGES)


def test_a_file_is_named_without_the_epoch() -> None:
    assert A.file_name == "a_1.0-1_amd64.deb"


def test_roles_are_merged_and_separated_again(tmp_path: Path) -> None:
    lock = DebLock.of(
        {"cpvm": [evolve(A, roles=())], "ssvm": [evolve(A, roles=()), evolve(B, roles=())]}, "x"
    )
    assert lock.debs == (A, B)
    lock.write(tmp_path / "lock.txt")
    assert DebLock.read(tmp_path / "lock.txt") == lock
    assert lock.of_role("cpvm") == [A]


def test_a_malformed_lock_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(f"# title\n{A.line}\nb 2.0 all many bb ssvm\n")
    with pytest.raises(SystemExit, match=r"lock\.txt:3: not a locked package\nhint: .*lock-debs"):
        DebLock.read(tmp_path / "lock.txt")


def test_an_architecture_without_a_lock_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"no Debian packages are locked for vax.*\nhint: .*ARCH=vax"):
        deb_lock.committed("vax")


def test_deviations_name_both_versions() -> None:
    newer = evolve(A, version="1:1.1-1")
    assert deb_lock.deviations([A, B], [newer]) == ["a: 1:1.0-1 → 1:1.1-1", "b: 2.0 → none"]
    assert deb_lock.deviations([A, B], [B, A]) == []


def test_a_bill_of_materials_does_not_depend_on_the_wheels_directory(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("")

    def bill(*places: str) -> dict[str, Any]:
        wheels = []
        for place, name in zip(places, ("a", "b"), strict=True):
            (tmp_path / place).mkdir(exist_ok=True)
            wheels.append(tmp_path / place / f"{name}-1.0-py3-none-any.whl")
            with zipfile.ZipFile(wheels[-1], "w") as wheel:
                about = zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA")
                wheel.writestr(about, f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        return sbom.document("cpvm", "1.0", "trixie", tmp_path / "status", [], [], wheels, [], 0)

    assert bill("cache", "own") == bill("own", "cache")


def test_images_differ_in_content_mode_owner_kind_and_presence() -> None:
    plain = Entry("file", 0o644, (0, 0), "x")
    first = dict.fromkeys("abcde", plain)
    second = {
        "a": evolve(plain, content="y"), "b": evolve(plain, mode=0o600), "c": evolve(plain, owner=(1, 0)),
        "d": plain, "f": plain,
    }  # fmt: skip
    found = {item.path: (item.what, item.reason) for item in differences(first, second, {"[ab]": "why"})}
    assert found == {
        "a": ("content", "why"), "b": ("mode", "why"), "c": ("owner", ""),
        "e": ("only in the first", ""), "f": ("only in the second", ""),
    }  # fmt: skip


def test_each_listed_difference_has_its_reason(tmp_path: Path) -> None:
    assert difference.explained()
    (tmp_path / "list.yaml").write_text("etc/x:\n")
    with pytest.raises(SystemExit, match="etc/x has no reason"):
        difference.explained(tmp_path / "list.yaml")
