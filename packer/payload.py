# SPDX-License-Identifier: Apache-2.0
"""Makes the tar that Packer copies into the guest: overlay, wheels and lists, with their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import mirror
from appliance import TOP, Appliance

from systemvm.host import guest_code
from systemvm.wire.role import Role

#: Files of our own wheel, in addition to its packages.
WHEEL_FILES = ("pyproject.toml", "LICENSE", "agents/systemvm/__init__.py")
#: Where packages from npm are in the image.
NPM_HOME = "opt/systemvm"


def fetch_wheels(lock: Path, destination: Path, machine: str) -> None:
    """Download the locked wheels for the guest's Python, each checked against its hash.

    `machine` is the processor as wheels name it: x86_64 or aarch64.
    """
    platforms = [
        option
        for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
        for option in ("--platform", f"{tag}_{machine}")
    ]
    destination.mkdir(parents=True, exist_ok=True)
    _pip(
        "download", "--require-hashes", "--only-binary", ":all:", "--no-deps", "--python-version", "3.13",
        "--implementation", "cp", "--abi", "cp313", "--abi", "abi3", "--abi", "none",
        *platforms, "--dest", str(destination), "--requirement", str(lock),
    )  # fmt: skip


def build_own_wheel(appliance: Appliance, destination: Path) -> Path:
    """Build a wheel of one appliance's packages from a copy, so that the source tree is unchanged.

    Its version file names this code exactly, so that a daemon with other code patches the agent.
    """
    source = destination / "source"
    shutil.rmtree(destination, ignore_errors=True)
    for name in appliance.packages_of_ours:
        shutil.copytree(
            TOP / "agents/systemvm" / name,
            source / "agents/systemvm" / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in WHEEL_FILES:
        shutil.copy(TOP / name, source / name)
    code = guest_code.read(Role(appliance.role), TOP / "agents")
    (source / "agents" / guest_code.VERSION_FILE).write_bytes(code.files[guest_code.VERSION_FILE])
    # file modes of a checkout depend on the umask, and a wheel contains them
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    os.environ["SOURCE_DATE_EPOCH"] = str(appliance.source_date_epoch)
    _pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(destination),
        str(source),
    )
    shutil.rmtree(source)
    return next(destination.glob("*.whl"))


def _pip(*arguments: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=mirror.environment())
    if done.returncode != 0:
        raise SystemExit(
            f"{done.stderr.strip()}\nerror: pip {arguments[0]} failed\n"
            "hint:  run `make setup` to make the Python environment; for downloads set PIP_INDEX_URL,\n"
            "       CA_BUNDLE or https_proxy"
        )


def stage(
    appliance: Appliance, work: Path, wheels: list[Path], stock: list[Path], facts: dict[str, str]
) -> Path:
    """Copy all files to `work` and pack them; equal inputs and `facts` give equal bytes."""
    payload, overlay = work / "payload", work / "overlay"
    shutil.rmtree(work, ignore_errors=True)
    payload.mkdir(parents=True)
    overlay.mkdir()
    _overlay(appliance, overlay, facts)
    for package in stock:
        shutil.copytree(package, overlay / NPM_HOME / package.name)
    _tar(overlay, payload / "overlay.tar", appliance.source_date_epoch)

    (payload / "wheels").mkdir()
    for wheel in wheels:
        shutil.copy(wheel, payload / "wheels" / wheel.name)
    lists = {
        "version": [appliance.version],
        "users": appliance.users,
        "append": [appliance.kernel_arguments],
        "enable": appliance.enable,
        "programs": [f"{name}:{module}" for name, module in appliance.programs.items()],
        "python-prune": appliance.python_prune,
        "masked-units": (TOP / "appliances/base/masked-units").read_text().splitlines(),
        "udev-rules": (TOP / "appliances/base/udev-rules").read_text().splitlines(),
    }
    for name, lines in lists.items():
        (payload / name).write_text("\n".join(lines) + "\n")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(payload)}\n"
        for path in sorted(payload.rglob("*"))
        if path.is_file()
    ]
    (payload / "SHA256SUMS").write_text("".join(sums))
    _tar(payload, work / "payload.tar", appliance.source_date_epoch)
    return work / "payload.tar"


def _overlay(appliance: Appliance, overlay: Path, facts: dict[str, str]) -> None:
    for directory in ("base", appliance.role):
        source = TOP / "appliances" / directory / "overlay"
        if source.exists():
            shutil.copytree(source, overlay, dirs_exist_ok=True)
    units = overlay / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for name in appliance.units:
        shutil.copy(TOP / "systemd/guest" / name, units / name)
    for kind, name in (("sysusers.d", "systemvm-users.conf"), ("tmpfiles.d", "systemvm-tmpfiles.conf")):
        (overlay / "usr/lib" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / "systemd/policy" / name, overlay / "usr/lib" / kind / name)
    (overlay / "etc/systemvm").mkdir(parents=True, exist_ok=True)
    shutil.copy(TOP / "appliances" / appliance.role / "nftables.conf", overlay / "etc/systemvm/nftables.conf")
    (overlay / "etc/systemvm/image.json").write_text(json.dumps(facts, indent=1) + "\n")
    (overlay / "etc/cloudstack-release").write_text(
        f"Cloudstack Release 4.22.0 systemvm {facts['version']} {facts['built']}\n"
    )


def _tar(directory: Path, output: Path, epoch: int) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tarfile.open(output, "w") as tar:
        for path in sorted(directory.rglob("*")):
            tar.add(path, path.relative_to(directory), recursive=False, filter=plain)
