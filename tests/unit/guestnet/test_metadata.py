# SPDX-License-Identifier: Apache-2.0
"""What the metadata service answers, and to whom."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from systemvm.guestnet.metadata import DataDirectory, answer
from systemvm.host.guest_services import GuestData, encode_data

DATA = GuestData({"instance-id": "one", "local-ipv4": "10.13.0.50"}, b"\x1f\x8b\x00raw")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/latest", b"meta-data/\nuser-data\n"),
        ("/latest/meta-data", b"instance-id\nlocal-ipv4\n"),
        ("/latest/meta-data/", b"instance-id\nlocal-ipv4\n"),
        ("/latest/meta-data/instance-id", b"one"),
        ("/1.0/meta-data/local-ipv4", b"10.13.0.50"),
        ("/latest/user-data", b"\x1f\x8b\x00raw"),
        ("/latest/meta-data/public-keys", None),
        ("/latest/meta-data/instance-id/x", None),
        ("/latest/meta-data/../10.13.0.51.json", None),
        ("/", None),
        ("", None),
        ("/2009-04-04/meta-data", None),
    ],
)
def test_paths_are_those_of_cloudstack(path: str, expected: bytes | None) -> None:
    assert answer(path, DATA) == expected


def test_a_machine_without_user_data_has_none() -> None:
    assert answer("/latest/user-data", GuestData({})) is None


@pytest.mark.parametrize(
    "peer", ["10.13.0.51", "::ffff:10.13.0.50", "../10.13.0.50", "10.13.0.50/..", "", "*", "10.13.0.5"]
)
def test_only_the_address_that_asks_has_data(tmp_path: Path, peer: str) -> None:
    directory = DataDirectory(tmp_path)
    directory.path(IPv4Address("10.13.0.50"), "02:00:00:00:00:01").write_bytes(encode_data(DATA))
    assert directory.of("10.13.0.50") == DATA
    assert directory.of(peer) is None


def test_a_file_that_is_not_whole_is_no_data(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.path(IPv4Address("10.13.0.50"), "02:00:00:00:00:01").write_bytes(encode_data(DATA)[:-5])
    assert directory.of("10.13.0.50") is None


def test_of_two_machines_with_one_address_none_has_data(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    for mac in ("02:00:00:00:00:01", "02:00:00:00:00:02"):
        directory.path(IPv4Address("10.13.0.50"), mac).write_bytes(encode_data(DATA))
    assert directory.of("10.13.0.50") is None
