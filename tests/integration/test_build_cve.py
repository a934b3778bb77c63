# SPDX-License-Identifier: Apache-2.0
"""Search for known vulnerabilities in crafted data: found, not found, or not examined."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "packer"))
import cve

needs_debsecan = pytest.mark.skipif(not shutil.which("debsecan"), reason="debsecan is not installed")
STATUS = """Package: libssl3t64
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.5.1-1

Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib
Version: 1:1.3-1

"""
#: As the security tracker serves it: names, then package, name's number, flags, the fixed version.
TRACKER = """VERSION 1
CVE-2099-0001,,a vulnerability of OpenSSL
CVE-2099-0002,,a vulnerability that this version does not have

openssl,0,SHRF,3.5.2-1,
zlib,1,SLRF,1:1.2-1,

openssl,libssl3t64
zlib,zlib1g

"""


@pytest.fixture
def status(tmp_path: Path) -> Path:
    path = tmp_path / "dpkg-status"
    path.write_text(STATUS)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "trixie").write_bytes(zlib.compress(TRACKER.encode()))
    return directory


@needs_debsecan
def test_a_vulnerable_package_is_reported_and_a_fixed_one_is_not(status: Path, data: Path) -> None:
    assert cve.debian("cpvm", status, "trixie", data).lines == ["CVE-2099-0001 libssl3t64"]


@needs_debsecan
def test_a_fixed_package_is_not_reported(status: Path, data: Path) -> None:
    status.write_text(STATUS.replace("3.5.1-1", "3.5.2-1"))
    assert cve.debian("cpvm", status, "trixie", data).lines == []


@needs_debsecan
def test_missing_data_is_an_error_and_not_an_empty_result(status: Path, tmp_path: Path) -> None:
    with pytest.raises(cve.CannotExamineError, match=r"(?s)trixie \(CVE_DATA\) does not exist.*hint:"):
        cve.debian("cpvm", status, "trixie", tmp_path)
    (tmp_path / "trixie").write_bytes(b"no tracker's data")
    with pytest.raises(cve.CannotExamineError, match=r"(?s)debsecan: .*hint: .*CVE_DATA"):
        cve.debian("cpvm", status, "trixie", tmp_path)


def pip_audit(directory: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Install a pip-audit with this output, found before any other."""
    program = directory / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'OUTPUT'\n{output}\nOUTPUT\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(directory / "python"))


def test_vulnerable_wheels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vulnerable = '{"name": "twisted", "version": "1.0", "vulns": [{"id": "PYSEC-2099-1"}]}'
    clean = '{"name": "attrs", "version": "2.0", "vulns": []}'
    pip_audit(tmp_path, monkeypatch, f'{{"dependencies": [{vulnerable}, {clean}]}}')
    assert cve.python(tmp_path / "lock").lines == ["PYSEC-2099-1 twisted 1.0"]


@pytest.mark.parametrize("output", ["", "[]", '{"dependencies": [{"name": "x", "skip_reason": "unknown"}]}'])
def test_unexamined_wheels_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    pip_audit(tmp_path, monkeypatch, output)
    with pytest.raises(cve.CannotExamineError, match="hint:"):
        cve.python(tmp_path / "lock")


def test_the_command_names_each_part_that_it_could_not_examine(tmp_path: Path) -> None:
    """PATH hides what this host has installed: there is neither debsecan nor pip-audit."""
    done = subprocess.run(
        [sys.executable, cve.__file__, "cpvm"], capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": "/nowhere", "CVE_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: cannot examine cpvm: debsecan is not installed" in done.stderr
    assert "hint:" in done.stderr
