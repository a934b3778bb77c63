# SPDX-License-Identifier: Apache-2.0
"""Known vulnerabilities, with data made by hand: found, not found and not examined are told apart."""

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
#: As the security tracker serves it: names, then package, name's number, flags, where it is mended.
TRACKER = """VERSION 1
CVE-2099-0001,,a hole in OpenSSL
CVE-2099-0002,,a hole that this version has no more

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
def test_a_vulnerable_package_is_named_and_a_mended_one_is_not(status: Path, data: Path) -> None:
    assert cve.debian("cpvm", status, "trixie", data).lines == ["CVE-2099-0001 libssl3t64"]


@needs_debsecan
def test_a_mended_package_leaves_nothing_to_report(status: Path, data: Path) -> None:
    status.write_text(STATUS.replace("3.5.1-1", "3.5.2-1"))
    assert cve.debian("cpvm", status, "trixie", data).lines == []


@needs_debsecan
def test_without_data_it_is_said_and_not_taken_for_nothing_known(status: Path, tmp_path: Path) -> None:
    with pytest.raises(cve.CannotExamineError, match=r"(?s)CVE_DATA has no file .*trixie.*hint:"):
        cve.debian("cpvm", status, "trixie", tmp_path)
    (tmp_path / "trixie").write_bytes(b"no tracker's data")
    with pytest.raises(cve.CannotExamineError, match=r"(?s)debsecan: .*hint: .*CVE_DATA"):
        cve.debian("cpvm", status, "trixie", tmp_path)


def pip_audit(directory: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A pip-audit that answers so, found before any other."""
    program = directory / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'ANSWER'\n{answer}\nANSWER\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(directory / "python"))


def test_vulnerable_wheels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vulnerable = '{"name": "twisted", "version": "1.0", "vulns": [{"id": "PYSEC-2099-1"}]}'
    clean = '{"name": "attrs", "version": "2.0", "vulns": []}'
    pip_audit(tmp_path, monkeypatch, f'{{"dependencies": [{vulnerable}, {clean}]}}')
    assert cve.python(tmp_path / "lock").lines == ["PYSEC-2099-1 twisted 1.0"]


@pytest.mark.parametrize("answer", ["", "[]", '{"dependencies": [{"name": "x", "skip_reason": "unknown"}]}'])
def test_wheels_that_were_not_looked_at_are_not_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    pip_audit(tmp_path, monkeypatch, answer)
    with pytest.raises(cve.CannotExamineError, match="hint:"):
        cve.python(tmp_path / "lock")


def test_the_command_names_each_part_that_it_could_not_examine(tmp_path: Path) -> None:
    """Neither debsecan's data nor a pip-audit are here, whatever this host has installed."""
    done = subprocess.run(
        [sys.executable, cve.__file__, "cpvm"], capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": "/nowhere", "CVE_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: cannot examine cpvm: debsecan is not installed" in done.stderr
    assert "hint:" in done.stderr
