# SPDX-License-Identifier: Apache-2.0
"""Credentials in SMBIOS strings: encoding, maximum size and permissions of the files."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from systemvm.management.hypervisors import smbios
from systemvm.management.hypervisors.errors import HypervisorError


def test_values_are_base64_encoded() -> None:
    value = b"type=secstorage\0name=s-1-VM\n"
    [string] = smbios.credential_strings({"systemvm.cmdline": value})
    name, _, encoded = string.partition(b"=")
    assert name == b"io.systemd.credential.binary:systemvm.cmdline"
    assert base64.b64decode(encoded, validate=True) == value


def test_too_large_credentials_are_rejected_with_a_hint() -> None:
    with pytest.raises(HypervisorError, match=r"64511.*P-256"):
        smbios.credential_strings({"systemvm.identity": b"x" * 50_000})
    assert smbios.credential_strings({"systemvm.identity": b"x" * 48_000})


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a\nb", "../a"])
def test_invalid_credential_name_is_rejected(name: str) -> None:
    with pytest.raises(HypervisorError, match="not a valid name of a credential"):
        smbios.credential_strings({name: b"x"})


def test_files_are_for_owner_and_group_and_replace_those_of_an_earlier_start(tmp_path: Path) -> None:
    stale = tmp_path / "s-1-VM.smbios0"
    stale.write_bytes(b"old")
    stale.chmod(0o644)
    paths = smbios.write(tmp_path, "s-1-VM", [b"one", b"two"])
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert {oct(path.stat().st_mode & 0o777) for path in paths} == {"0o640"}
