# SPDX-License-Identifier: Apache-2.0
"""A store that a CloudStack has filled is listed as it is; what cannot be used is named, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.properties import java_properties
from systemvm.ssvm.properties.foreign import PropertiesError, parse
from systemvm.ssvm.store import foreign_properties
from systemvm.ssvm.store.foreign_properties import MISSING
from systemvm.wire.storage import ImageFormat, ListedTemplate

#: As CloudStack's agent saves it with java.util.Properties (reference 2.4).
BY_JAVA = b"""#
#Tue Nov 17 10:11:12 UTC 2026
id=204
public=true
uniquename=204-2-aa0e1c5c-6a9d-3f3c-a7f0-0a1b2c3d4e5f
filename=3f9c.qcow2
description=CentOS \\u00FCber alles\\: 7
hvm=true
size=7
virtualsize=8589934592
physicalSize=7
checksum={SHA-256}9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
qcow2=true
qcow2.filename=3f9c.qcow2
qcow2.size=7
qcow2.virtualsize=8589934592
"""
#: As createtmplt.sh begins it, in UTF-8, with what the agent appends.
BY_SCRIPT = """filename=debian.iso
description=Größe
hvm=false
size=7
iso=true
iso.filename=debian netinst.iso
iso.size=7
iso.virtualsize=7
virtualsize=7
id=205
public=false
uniquename=debian.iso
""".encode()


def described(directory: Path, data: bytes | None, image: str = "", size: int = 7) -> ListedTemplate:
    place = directory / "template/tmpl/2/204"
    place.mkdir(parents=True)
    if data is not None:
        (place / "template.properties").write_bytes(data)
    if image:
        (place / image).write_bytes(bytes(size))
    mount = os.open(directory, os.O_RDONLY)
    try:
        return foreign_properties.describe(mount, "template/tmpl/2/204", 2, 204)
    finally:
        os.close(mount)


def test_what_the_agent_has_written_is_read(tmp_path: Path) -> None:
    found = described(tmp_path, BY_JAVA, "3f9c.qcow2")
    assert (found.problem, found.is_damaged) == ("", False)
    assert found.unique_name == "204-2-aa0e1c5c-6a9d-3f3c-a7f0-0a1b2c3d4e5f"
    assert (found.description, found.format) == ("CentOS über alles: 7", ImageFormat.QCOW2)
    assert (found.size_bytes, found.virtual_size_bytes) == (7, 8589934592)
    assert (found.public, found.hvm, found.checksum[:9]) == (True, True, "{SHA-256}")
    assert found.modified_unix_s > 0


def test_what_the_script_has_written_is_read(tmp_path: Path) -> None:
    found = described(tmp_path, BY_SCRIPT, "debian netinst.iso")
    assert (found.problem, found.format, found.file_name) == ("", ImageFormat.ISO, "debian netinst.iso")
    assert (found.description, found.hvm, found.public) == ("Größe", False, False)


def test_latin_1_is_read_too() -> None:
    assert parse(BY_SCRIPT.decode().encode("latin-1")).description == "Größe"


@pytest.mark.parametrize(
    ("without", "problem"),
    [
        (b"uniquename=", "uniquename is missing"),
        (b"\nvirtualsize=", "virtualsize is missing"),
        (b"qcow2=true", "no format is present"),
        (b"qcow2.filename=", "entry of qcow2 is not complete"),
        (b"qcow2.size=", "entry of qcow2 is not complete"),
        (b"qcow2.virtualsize=", "entry of qcow2 is not complete"),
    ],
)
def test_what_cloudstack_would_not_load_is_a_problem(without: bytes, problem: str) -> None:
    with pytest.raises(PropertiesError, match=problem):
        parse(BY_JAVA.replace(without, b"\n#x" + without.strip()))


@pytest.mark.parametrize("key", [b"\nvirtualsize=8589934592", b"qcow2.virtualsize=8589934592"])
def test_a_size_that_no_database_can_store_is_a_problem(key: bytes) -> None:
    assert 10**19 - 1 >= 1 << 63
    with pytest.raises(PropertiesError):
        parse(BY_JAVA.replace(key, key.replace(b"8589934592", b"9" * 19)))


@pytest.mark.parametrize("name", ["../205/x.qcow2", "/etc/passwd", ".."])
def test_a_file_name_that_is_a_path_is_a_problem(name: str) -> None:
    with pytest.raises(PropertiesError, match="file name"):
        parse(BY_JAVA.replace(b"qcow2.filename=3f9c.qcow2", f"qcow2.filename={name}".encode()))


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"\\u12", os.urandom(4096), b"=" * 65536])
def test_garbage_is_a_problem_and_no_error(tmp_path: Path, data: bytes) -> None:
    found = described(tmp_path, data)
    assert found.problem
    assert not found.is_damaged


def test_a_missing_or_short_image_is_damage(tmp_path: Path) -> None:
    gone, short = tmp_path / "gone", tmp_path / "short"
    assert described(gone, BY_JAVA).is_damaged
    found = described(short, BY_JAVA, "3f9c.qcow2", 6)
    assert (found.is_damaged, found.problem) == (True, "its file has 6 bytes, not 7")


def test_a_directory_without_properties_is_named(tmp_path: Path) -> None:
    assert described(tmp_path, None).problem == "template.properties is missing"
    mount = os.open(tmp_path, os.O_RDONLY)
    try:
        assert foreign_properties.describe(mount, "template/tmpl/9/9", 9, 9).problem == MISSING
    finally:
        os.close(mount)


def test_links_and_directories_are_a_problem_and_no_error(tmp_path: Path) -> None:
    """One template that an administrator has moved elsewhere must not hide all the others."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "template.properties").write_bytes(BY_JAVA)
    place = tmp_path / "template/tmpl/2"
    place.mkdir(parents=True)
    (place / "1").symlink_to(elsewhere)
    (place / "2").mkdir()
    (place / "2/template.properties").symlink_to(elsewhere / "template.properties")
    (place / "3/template.properties").mkdir(parents=True)
    for number in (4, 5):
        (place / f"{number}").mkdir()
        (place / f"{number}/template.properties").write_bytes(BY_JAVA)
    (place / "4/3f9c.qcow2").symlink_to("/etc/passwd")
    (place / "5/3f9c.qcow2").mkdir()
    mount = os.open(tmp_path, os.O_RDONLY)
    try:
        found = [
            foreign_properties.describe(mount, f"template/tmpl/2/{number}", 2, number)
            for number in range(1, 6)
        ]
    finally:
        os.close(mount)
    assert ["link" in each.problem for each in found] == [True, True, False, False, False]
    assert [each.is_damaged for each in found] == [False, False, False, True, True]
    assert found[2].problem == "template.properties is not a file"
    assert {each.problem for each in found[3:]} == {"its file is not a regular file"}


KEYS = [
    "uniquename",
    "virtualsize",
    "qcow2",
    "qcow2.filename",
    "qcow2.size",
    "qcow2.virtualsize",
    "iso",
    "public",
]
PROPERTIES = st.dictionaries(
    st.sampled_from(KEYS),
    st.sampled_from(["true", "7", "a.qcow2", "9" * 19, "\u0661"]) | st.text(max_size=12),
)


@given(st.binary(max_size=200) | PROPERTIES.map(lambda values: java_properties.render(values).encode()))
def test_any_bytes_are_a_template_or_a_problem(data: bytes) -> None:
    try:
        found = parse(data)
    except PropertiesError as error:
        assert error.message
    else:
        assert 0 < found.size_bytes < 1 << 63
        assert 0 < found.virtual_size_bytes < 1 << 63
        assert "/" not in found.file_name
