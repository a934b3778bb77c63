# SPDX-License-Identifier: Apache-2.0
"""A support bundle is complete and without secrets, with and without a daemon."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from booted_cloud import BootedCloud
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.cloud


def unpack(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name).decode() for name in zipped.namelist()}


def secrets_of(cloud: BootedCloud) -> list[str]:
    """Return the first lines of every key, and the passwords."""
    login = cloud.lab.login
    found = [login.password, login.secret_key]
    for key in (*cloud.plan.layout.pki.glob("*.key"), cloud.plan.layout.pki / "ssh_key"):
        found += [line for line in key.read_text(errors="replace").splitlines() if "-----" not in line][:3]
    return [secret for secret in found if len(secret) > 8]


def test_a_bundle_contains_everything_but_secrets(cloud: BootedCloud, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    done = cloud.cli("support-bundle", "-o", str(path))
    assert "0 could not be collected" in done.stdout, unpack(path)["MANIFEST.txt"]
    assert path.stat().st_mode & 0o777 == 0o600
    files = unpack(path)
    ssvm = cloud.system_vm("secondarystoragevm")["name"]
    for name in ("cloud/system-vms.json", "cloud/events.json", "host/nftables.txt", "host/managementd.log",
                 "host/etc/systemvm/managementd.yaml", f"{ssvm}/serial.log", f"{ssvm}/checks",
                 f"{ssvm}/var/log/cloud.log"):  # fmt: skip
        assert files[name].strip(), name
    secrets = secrets_of(cloud)
    assert len(secrets) > 6
    for secret in secrets:
        for name, text in files.items():
            assert secret not in text, f"a secret is in {name}"


def test_a_bundle_is_made_without_a_daemon(tmp_path: Path, cloud: BootedCloud) -> None:
    path = tmp_path / "bundle.zip"
    program = cloud.command_line[0]
    done = subprocess.run(
        [program, "--root", tmp_path / "nowhere", "support-bundle", "-o", path],
        capture_output=True, text=True, timeout=scaled_s(120.0), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = unpack(path)
    assert "host/kernel.txt" in files
    assert "nothing answers at" in files["MANIFEST.txt"]
