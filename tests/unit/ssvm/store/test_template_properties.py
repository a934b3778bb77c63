# SPDX-License-Identifier: Apache-2.0
"""template.properties in the format of Java."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties import java_properties
from systemvm.ssvm.properties.template import TemplateProperties
from systemvm.wire.storage import ImageFormat

TEMPLATE = TemplateProperties(
    template_id=204, unique_name="204-2-x", description=" CentOS = 7 #1\nnö 💾", public=True, hvm=True,
    format=ImageFormat.QCOW2, file_name="3f9c.qcow2", size_bytes=459276288, virtual_size_bytes=8589934592,
    checksum="{SHA-256}ab", job_id="j-1",
)  # fmt: skip


def test_a_template_has_the_keys_of_cloudstack() -> None:
    values = java_properties.parse(TEMPLATE.to_text())
    assert values == {
        "filename": "3f9c.qcow2", "description": " CentOS = 7 #1\nnö 💾", "hvm": "true", "size": "459276288",
        "virtualsize": "8589934592", "physicalSize": "459276288", "id": "204", "public": "true",
        "uniquename": "204-2-x", "qcow2": "true", "qcow2.filename": "3f9c.qcow2", "qcow2.size": "459276288",
        "qcow2.virtualsize": "8589934592", "checksum": "{SHA-256}ab", "jobid": "j-1",
    }  # fmt: skip
    assert TEMPLATE.to_text().isascii()
    assert TemplateProperties.from_text(TEMPLATE.to_text()) == TEMPLATE


@pytest.mark.parametrize("image_format", ImageFormat)
def test_each_format_has_its_own_keys(image_format: ImageFormat) -> None:
    extension = image_format.extension
    template = evolve(TEMPLATE, format=image_format, file_name=f"3f9c.{extension}")
    values = java_properties.parse(template.to_text())
    assert values[extension] == "true"
    assert values[f"{extension}.filename"] == f"3f9c.{extension}"
    assert (values[f"{extension}.size"], values[f"{extension}.virtualsize"]) == ("459276288", "8589934592")
    assert TemplateProperties.from_text(template.to_text()) == template


def test_each_value_is_one_line() -> None:
    assert len(TEMPLATE.to_text().splitlines()) == 15


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=6))
def test_written_values_are_parsed_again(values: dict[str, str]) -> None:
    values = {key: value for key, value in values.items() if not _has_surrogate(key + value)}
    assert java_properties.parse(java_properties.render(values)) == values


def _has_surrogate(text: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def test_properties_of_java_are_parsed() -> None:
    text = "#comment\n! another\n\nfilename=a.iso\nid : 7\nsize 12\nlong=one\\\n   two\n"
    text += "path\\ name=c\\:\\\\x\nn=\\u00F6\n"
    wanted = {"filename": "a.iso", "id": "7", "size": "12", "long": "onetwo", "path name": "c:\\x", "n": "ö"}
    assert java_properties.parse(text) == wanted


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_what_java_takes_for_the_end_of_a_line_is_one(separator: str) -> None:
    """createtmplt.sh writes UTF-8: what a user typed must not become a key of its own."""
    text = f"description=a{separator}filename=/etc/passwd\rfilename=a.iso\r\nid=7"
    assert java_properties.parse(text) == {
        "description": f"a{separator}filename=/etc/passwd", "filename": "a.iso", "id": "7"
    }  # fmt: skip


def test_the_last_line_can_be_continued_by_nothing() -> None:
    assert java_properties.parse("id=7\nname=a\\") == {"id": "7", "name": "a"}


@pytest.mark.parametrize("escape", ["\\u+123", "\\u1_23", "\\u 123", "\\u12"])
def test_what_is_no_escape_of_java_is_no_character(escape: str) -> None:
    assert java_properties.parse(f"name={escape}") == {"name": escape[1:]}


@pytest.mark.parametrize("text", ["", "id=1\n", TEMPLATE.to_text().replace("size=4", "size=x")])
def test_an_invalid_file_is_rejected(text: str) -> None:
    with pytest.raises(TransferError):
        TemplateProperties.from_text(text)
