# SPDX-License-Identifier: Apache-2.0
"""A patch of the agent in a guest: install, trial, confirmation and rollback."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from systemvm.guest import patch
from systemvm.guest.patch import Patch, PatchError, run_trial
from systemvm.guest.paths import GuestPaths
from systemvm.host import guest_code
from systemvm.host.guest_code import GuestCodeError
from systemvm.management.system_vms import patch_bundle
from systemvm.wire.patch_failure import PatchFailure
from systemvm.wire.role import Role

TOP = Path(__file__).resolve().parents[3]
PROGRAM = '#!/usr/bin/python3 -IS\nimport sys\nsys.path.append("/opt/systemvm/0.1.0/lib")\n'


@functools.cache
def own_bundle(role: Role) -> patch_bundle.PatchBundle:
    return patch_bundle.build(role, patch_bundle.own_code(), start_timeout_s=10)


class Guest:
    """A root directory like that of the image; commands are recorded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "opt/systemvm"
        self.stage = root / "run/systemvm-patch"
        self.commands: list[str] = []
        self.mounts: list[Path] = []
        self.failing = ""
        self.reports: list[dict[str, Any]] = []
        lib = self.home / "0.1.0/lib"
        for name in ("systemvm/guest/old.py", "twisted/__init__.py"):
            (lib / name).parent.mkdir(parents=True, exist_ok=True)
            (lib / name).write_text("old")
        for requirement in patch_bundle._requirements():
            (lib / f"{requirement.replace('-', '_')}-1.dist-info").mkdir()
        (self.home / "0.1.0/bin").mkdir()
        (self.home / "0.1.0/bin/systemvm-agent").write_text(PROGRAM)
        (self.home / "novnc").mkdir()
        (self.home / "current").symlink_to("0.1.0")
        (root / "etc/systemvm").mkdir(parents=True)
        (root / "etc/systemvm/image.json").write_text('{"role": "ssvm"}')
        (root / "usr/lib/systemd/system").mkdir(parents=True)
        for unit in patch_bundle.UNITS[Role.SSVM]:
            (root / "usr/lib/systemd/system" / unit).touch()
        (root / "proc/self").mkdir(parents=True)
        self.show_mounts()

    def show_mounts(self) -> None:
        lines = [f"30 1 8:1 / {path} rw - ext4 /dev/vda rw\n" for path in self.mounts]
        (self.root / "proc/self/mountinfo").write_text("1 1 8:1 / / rw - ext4 /dev/vda rw\n" + "".join(lines))

    def run(self, command: list[str], timeout_s: float) -> str:
        line = " ".join(command).replace(str(self.root), "")
        self.commands.append(line)
        if command[:2] == ["mount", "--bind"]:
            self.mounts.append(Path(command[3]))
        if command[0] == "umount":
            self.mounts.remove(Path(command[-1]))
        self.show_mounts()
        if self.failing and self.failing in line:
            self.failing = ""
            raise PatchError("command-failed", "Job for systemvm-agent.service failed.")
        if command[0] != "journalctl":
            return ""
        return '{"MESSAGE": "Traceback"}\n{"MESSAGE": "ImportError: no module named nothing"}\n'

    def receive(self, source: Path | None = None, role: Role = Role.SSVM) -> patch_bundle.PatchBundle:
        bundle = patch_bundle.build(role, source, start_timeout_s=10) if source else own_bundle(role)
        with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as tar:
            tar.extractall(self.stage)
        return bundle

    def patch(self, verdict: str = "keep\n") -> int:
        return run_trial(Patch(self.root, self.stage, self.run), io.StringIO(verdict), self.reports.append)

    def versions(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir())

    @property
    def restarts(self) -> int:
        return self.commands.count("systemctl restart systemvm-agent.service")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def other_code(tmp_path: Path, text: str) -> Path:
    """Return a copy of the package with one more module."""
    source = tmp_path / text
    own = patch_bundle.own_code()
    for name in guest_code.read(Role.SSVM, own).files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own / name, source / name)
    (source / "systemvm/wire/extra.py").write_text(f'"""{text}"""\n')
    return source


def test_a_version_is_tried_before_it_is_installed(guest: Guest) -> None:
    bundle = guest.receive()
    assert guest.patch() == 0
    assert [report["step"] for report in guest.reports] == ["trial", "kept"]
    assert (guest.home / "current").readlink() == Path(bundle.version)
    assert guest.versions() == ["0.1.0", bundle.version, "current", "novnc"]
    version = (guest.home / bundle.version / "lib/systemvm/guest/version.py").read_text()
    assert f'VERSION = "{bundle.version}"' in version
    assert not (guest.home / bundle.version / "lib/systemvm/guest/old.py").exists()
    program = guest.home / bundle.version / "bin/systemvm-agent"
    assert f'"/opt/systemvm/{bundle.version}/lib"' in program.read_text()
    assert os.access(program, os.X_OK)
    theirs = [guest.home / name / "lib/twisted/__init__.py" for name in ("0.1.0", bundle.version)]
    assert theirs[0].samefile(theirs[1]), "packages of others are hard links"
    steps = [line for line in guest.commands if "compileall" not in line]
    assert steps == [
        f"mount --bind /opt/systemvm/{bundle.version} /opt/systemvm/0.1.0",
        "systemctl restart systemvm-agent.service",
        "systemctl try-restart systemvm-fetch.service systemvm-serve.service systemvm-store.service"
        " systemvm-mount.service",
        "umount --lazy /opt/systemvm/0.1.0",
    ]


def test_units_that_an_older_image_lacks_are_not_restarted(guest: Guest) -> None:
    (guest.root / "usr/lib/systemd/system/systemvm-serve.service").unlink()
    guest.receive()
    assert guest.patch() == 0
    restarts = [line for line in guest.commands if "try-restart" in line]
    assert restarts == [
        "systemctl try-restart systemvm-fetch.service systemvm-store.service systemvm-mount.service"
    ]


@pytest.mark.parametrize("role", [Role.SSVM, Role.CPVM])
def test_every_resident_service_of_a_role_gets_the_new_code(role: Role) -> None:
    facts = yaml.safe_load((TOP / f"appliances/{role.value}/appliance.yaml").read_text())
    resident = {unit for unit in facts.get("units", []) if unit.endswith(".service") and "@" not in unit}
    assert set(patch_bundle.UNITS[role]) == resident | {"systemvm-agent.service"}


@pytest.mark.parametrize("verdict", ["undo\n", "", "kee"])
def test_without_the_daemons_confirmation_the_old_version_is_restored(guest: Guest, verdict: str) -> None:
    guest.receive()
    assert guest.patch(verdict) == 1
    assert guest.reports[-1]["step"] == "undone"
    assert (guest.home / "current").readlink() == Path("0.1.0")
    assert guest.versions() == ["0.1.0", "current", "novnc"]
    assert guest.mounts == []
    assert guest.restarts == 2


def test_an_agent_that_does_not_start_is_reported_and_undone(guest: Guest) -> None:
    guest.receive()
    guest.failing = "restart systemvm-agent"
    assert guest.patch() == 1
    [report] = guest.reports
    assert report["step"] == "undone"
    assert report["reason"] == PatchFailure.AGENT_DOES_NOT_START.value
    assert report["error"] == "the agent does not start: ImportError: no module named nothing"
    assert guest.mounts == []
    assert guest.versions() == ["0.1.0", "current", "novnc"]


def test_a_patch_that_was_killed_in_its_trial_is_recovered(guest: Guest) -> None:
    guest.receive()
    killed = Patch(guest.root, guest.stage, guest.run)
    killed.install()
    killed.begin_trial()
    (guest.home / ".new-0.2").mkdir()
    Patch(guest.root, guest.stage, guest.run).recover()
    assert guest.mounts == []
    assert guest.restarts == 2
    assert (guest.home / "current").readlink() == Path("0.1.0")
    assert not (guest.home / ".new-0.2").exists()
    assert guest.patch() == 0, "another attempt succeeds"


def test_the_previous_version_is_kept_and_older_ones_are_removed(guest: Guest, tmp_path: Path) -> None:
    first = guest.receive()
    guest.patch()
    second = guest.receive(other_code(tmp_path, "second"))
    guest.patch()
    assert first.version != second.version
    assert guest.versions() == sorted([first.version, second.version, "current", "novnc"])


def test_the_same_version_is_only_restarted(guest: Guest) -> None:
    bundle = guest.receive()
    guest.patch()
    inode = (guest.home / bundle.version).stat().st_ino
    assert guest.patch() == 0
    assert (guest.home / bundle.version).stat().st_ino == inode
    assert guest.restarts == 2


def test_a_read_only_root_is_writable_only_during_writes(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda path: ReadOnly())
    guest.receive()
    guest.patch()
    remounts = [line.split()[2] for line in guest.commands if "remount" in line]
    assert remounts == ["remount,rw", "remount,ro"] * 2
    first_ro = next(at for at, line in enumerate(guest.commands) if "remount,ro" in line)
    assert "mount --bind" in guest.commands[first_ro + 1], "the root is read-only during the trial"


def damage(guest: Guest) -> None:
    (guest.stage / "lib/systemvm/guest/patch.py").write_text("other")


def add(guest: Guest) -> None:
    (guest.stage / "lib/systemvm/more.py").write_text("")


def climb(guest: Guest) -> None:
    manifest = json.loads((guest.stage / "manifest.json").read_text())
    manifest["version"] = "../../etc"
    (guest.stage / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (damage, "damaged"),
        (add, "does not match its manifest: systemvm/more.py"),
        (climb, "not allowed as a directory name"),
    ],
)
def test_an_incomplete_bundle_changes_nothing(guest: Guest, harm: Any, text: str) -> None:
    guest.receive()
    harm(guest)
    with pytest.raises(PatchError, match=text):
        Patch(guest.root, guest.stage, guest.run)
    assert guest.commands == []


def test_a_bundle_of_the_other_role_is_refused(guest: Guest) -> None:
    guest.receive(role=Role.CPVM)
    assert guest.patch() == 1
    assert "for role cpvm, this appliance has role ssvm" in guest.reports[-1]["error"]
    assert guest.restarts == 0


def test_code_with_a_missing_dependency_is_refused(guest: Guest) -> None:
    guest.receive()
    for path in (guest.home / "0.1.0/lib").glob("[mM]sgspec*"):
        path.rmdir()
    assert guest.patch() == 1
    assert "needs msgspec" in guest.reports[-1]["error"]
    assert guest.versions() == ["0.1.0", "current", "novnc"]


def test_equal_code_makes_an_equal_bundle(tmp_path: Path) -> None:
    own = patch_bundle.own_code()
    one, again = (patch_bundle.build(Role.SSVM, own, start_timeout_s=1) for _ in range(2))
    assert one == again
    changed = patch_bundle.build(Role.SSVM, other_code(tmp_path, "x"), start_timeout_s=1)
    assert changed.version != one.version
    assert changed.version.partition("+")[0] == one.version.partition("+")[0]
    with tarfile.open(fileobj=io.BytesIO(one.archive)) as tar:
        names = tar.getnames()
    assert not [name for name in names if "management" in name or "/cpvm/" in name]


def test_a_directory_without_the_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuestCodeError, match="does not contain"):
        patch_bundle.build(Role.SSVM, tmp_path, start_timeout_s=1)


@pytest.mark.parametrize("verdict", ["keep\n", "undo\n"])
def test_an_update_of_the_agent_keeps_its_identity(guest: Guest, verdict: str) -> None:
    paths = GuestPaths(guest.root)
    for path in (paths.own_identity, paths.bootstrap_identity, paths.ssh_host_key, paths.authorized_keys):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path.name}")
        path.chmod(0o600)

    def files_of_guest() -> dict[str, Any]:
        """Return the files below /run (without the bundle), /etc and /var."""
        files = [path for top in ("run", "etc", "var") for path in (guest.root / top).rglob("*")]
        return {
            str(path): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_mode)
            for path in files
            if path.is_file() and guest.stage not in path.parents
        }

    before = files_of_guest()
    assert str(paths.own_identity) in before
    guest.receive()
    assert guest.patch(verdict) == (0 if verdict == "keep\n" else 1)
    assert files_of_guest() == before


def test_reasons_in_the_file_are_those_of_the_enum() -> None:
    source = Path(patch.__file__).read_text("utf-8")
    raised = set(re.findall(r'PatchError\(\s*"([a-z-]+)"', source)) | {"internal"}
    assert raised == {reason.value for reason in PatchFailure}
