# SPDX-License-Identifier: Apache-2.0
"""Links until they expire: nothing distinguishes one that never existed."""

from __future__ import annotations

from attrs import evolve

from systemvm.ssvm.serve.link_table import LinkTable
from systemvm.wire.extract import ExtractLink, link_file_name
from systemvm.wire.storage import Store

LINK = ExtractLink("0f8f", "tiny.qcow2", Store("10.12.0.2", "/export"), 2, 204, 1000.0)


class Time:
    def __init__(self) -> None:
        self.unix_s = 900.0

    def __call__(self) -> float:
        return self.unix_s


def test_link_is_found_by_its_whole_path_until_it_expires() -> None:
    time = Time()
    table = LinkTable(time)
    table.put([LINK])
    assert table.find("/userdata/0f8f/tiny.qcow2") == LINK
    for path in ("/userdata/0f8f/other.qcow2", "/userdata/0f8f/", "/userdata/1111/tiny.qcow2", "", "/\udcff"):
        assert table.find(path) is None
    time.unix_s = 1000.0
    assert table.find("/userdata/0f8f/tiny.qcow2") is None
    table.sweep()
    assert len(table) == 0


def test_expired_link_is_not_added() -> None:
    time = Time()
    time.unix_s = 1001.0
    table = LinkTable(time)
    table.put([LINK])
    assert len(table) == 0


def test_excess_links_that_expire_first_are_dropped() -> None:
    table = LinkTable(Time(), max_links=2)
    table.put(evolve(LINK, secret=str(number), expires_unix_s=1000.0 + number) for number in (3, 1, 2))
    assert sorted(link.secret for link in table.all()) == ["2", "3"]


def test_links_of_a_template_are_dropped_together() -> None:
    table = LinkTable(Time())
    table.put([LINK, evolve(LINK, secret="1"), evolve(LINK, secret="2", template_id=205)])
    table.drop_template(2, 204)
    assert [link.secret for link in table.all()] == ["2"]


def test_file_name_is_cloudstacks() -> None:
    assert link_file_name('a/../b \u00e4\r\n"', "iso") == "a-b-.iso"
    assert link_file_name("\u540d", "raw") == "-.raw"
    assert len(link_file_name("x" * 1000, "raw")) < 140
