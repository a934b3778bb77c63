# SPDX-License-Identifier: Apache-2.0
"""Uploads by their URLs, and whose requests are theirs."""

from __future__ import annotations

import hmac
from base64 import b64encode

import pytest
from attrs import evolve

from systemvm.ssvm.serve.upload_table import FIELDS_MISSING, LENGTH_MISSING, NOT_SIGNED, UploadTable, refuse
from systemvm.ssvm.upload_messages import ServedUpload, UploadEnd

URL = "https://203.0.113.100/upload/5d3b4d8e"
METADATA, EXPIRES = "bWV0YQ==", "2026-11-29T01:00:00.000Z"
SIGNATURE = b64encode(hmac.new(b"key", (METADATA + URL + EXPIRES).encode(), "sha1").digest()).decode()
UPLOAD = ServedUpload("5d3b4d8e", "job-1", METADATA, EXPIRES, 100.0, SIGNATURE, 1 << 30)
SIGNED = {"x-signature": SIGNATURE, "x-metadata": METADATA, "x-expires": EXPIRES}


def refused(headers: dict[str, str], *, lacks_length: bool = False) -> str:
    return refuse(UPLOAD, lambda name: headers.get(name.lower(), ""), lacks_length=lacks_length)


def test_signed_request_is_its_owners() -> None:
    assert refused(SIGNED) == ""


@pytest.mark.parametrize("name", list(SIGNED))
def test_every_header_is_compulsory(name: str) -> None:
    assert refused({key: value for key, value in SIGNED.items() if key != name}) == FIELDS_MISSING
    assert refused(SIGNED | {name: ""}) == FIELDS_MISSING


@pytest.mark.parametrize("name", list(SIGNED))
@pytest.mark.parametrize("change", ["prefix", "suffix", "case", "other", "latin-1"])
def test_any_other_value_is_not_signed(name: str, change: str) -> None:
    value = SIGNED[name]
    changed = {
        "prefix": value[:-1],
        "suffix": value + "=",
        "case": value.swapcase(),
        "other": "x" * len(value),
        "latin-1": value[:-1] + "\xff",
    }[change]
    assert refused(SIGNED | {name: changed}) == NOT_SIGNED


def test_fields_are_missed_before_the_length_and_the_length_before_the_signature() -> None:
    assert refused({}, lacks_length=True) == FIELDS_MISSING
    assert refused(SIGNED | {"x-signature": "x"}, lacks_length=True) == LENGTH_MISSING


def test_an_upload_is_found_by_its_path_only() -> None:
    table = UploadTable(lambda: 0.0)
    table.put([UPLOAD])
    assert table.find("/upload/5d3b4d8e") == UPLOAD
    for path in ("/upload/", "/upload", "/upload/5d3b4d8e/", "/upload/5D3B4D8E", "/userdata/5d3b4d8e", ""):
        assert table.find(path) is None
    table.put([evolve(UPLOAD, upload_id="other")], is_first=True)
    assert table.find("/upload/5d3b4d8e") is None


def test_expiry_is_compared_with_the_clock() -> None:
    now_s = 99.9
    table = UploadTable(lambda: now_s)
    assert not table.is_expired(UPLOAD)
    now_s = 100.0
    assert table.is_expired(UPLOAD)


def test_clients_that_wait_are_answered_at_the_end() -> None:
    table, ends = UploadTable(lambda: 0.0), list[UploadEnd]()
    table.put([UPLOAD])
    table.when_ended("5d3b4d8e", ends.append)
    table.put([UPLOAD])
    assert ends == []
    end = UploadEnd(total_bytes=7)
    table.put([evolve(UPLOAD, end=end)])
    table.when_ended("5d3b4d8e", ends.append)
    assert ends == [end, end]


def test_an_aborted_upload_ends_for_its_clients() -> None:
    table, ends = UploadTable(lambda: 0.0), list[UploadEnd]()
    table.put([UPLOAD])
    table.when_ended("5d3b4d8e", ends.append)
    table.drop("5d3b4d8e")
    table.drop("5d3b4d8e")
    assert [end.code for end in ends] == ["aborted"]
    assert table.find("/upload/5d3b4d8e") is None
