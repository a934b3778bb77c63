# SPDX-License-Identifier: Apache-2.0
"""Listing the templates of a store: pages, and errors of unreadable parts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store import descriptors, published_templates
from systemvm.ssvm.store import operations as store_module
from systemvm.ssvm.store.operations import StoreHelper
from systemvm.wire.storage import TemplateListing
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.store.helper_without_mount import HelperWithoutMount

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"


def listing(helper: StoreHelper, after: str = "") -> TemplateListing:
    value = helper.list_templates(0, messages.ListRequest(MOUNT_ID, after)).result
    assert isinstance(value, TemplateListing)
    return value


def test_pages_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(1, 2), (1, 10), (2, 1), (10, 7)]
    for account, template in places:
        (tmp_path / f"template/tmpl/{account}/{template}").mkdir(parents=True)
    (tmp_path / "template/tmpl/1/.hidden").mkdir()
    monkeypatch.setattr(store_module, "LIST_PAGE", 3)
    first = listing(HelperWithoutMount(tmp_path))
    second = listing(HelperWithoutMount(tmp_path), first.next)
    found = [(one.account_id, one.template_id) for one in [*first.templates, *second.templates]]
    assert found == places, "templates without properties are listed, too"
    assert (first.next, second.next) == ("2/1", "")


def test_only_numbers_of_templates_are_listed(tmp_path: Path) -> None:
    templates = tmp_path / "template/tmpl"
    for name in ("2/204", "2/0204", "2/" + "9" * 30, "2/²", "007/1", "9" * 19 + "/1", "٣/1"):
        (templates / name).mkdir(parents=True)
    (templates / "3").write_bytes(b"a file in the place of an account")
    found = listing(HelperWithoutMount(tmp_path)).templates
    assert [(one.account_id, one.template_id) for one in found] == [(2, 204)]


def test_one_template_behind_a_link_hides_no_other_one(tmp_path: Path) -> None:
    account = tmp_path / "template/tmpl/2"
    account.mkdir(parents=True)
    (account / "203").symlink_to("/srv/moved/203")
    (account / "204").mkdir()
    found = listing(HelperWithoutMount(tmp_path)).templates
    assert [(one.template_id, one.problem) for one in found] == [
        (203, "it is a link, or contains one in place of its properties"),
        (204, "template.properties is missing"),
    ]


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_properties_file_was_published_by_nobody(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "template/tmpl/2/204"
    place.mkdir(parents=True)
    properties = place / "template.properties"
    if kind == "directory":
        properties.mkdir()
    else:
        os.mkfifo(properties)
    request = messages.FindRequest(MOUNT_ID, "job-1", 2, 204)
    assert HelperWithoutMount(tmp_path).find(0, request).result.published is None


@pytest.mark.parametrize("place", ["2", "2/204", "2/204/template.properties"])
def test_a_link_on_the_way_is_an_error_before_anything_is_downloaded(tmp_path: Path, place: str) -> None:
    link = tmp_path / "template/tmpl" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path)
    request = messages.FindRequest(MOUNT_ID, "job-1", 2, 204)
    with pytest.raises(OSError, match="symbolic links"):
        HelperWithoutMount(tmp_path).find(0, request)


def test_a_store_without_templates_is_empty(tmp_path: Path) -> None:
    assert listing(HelperWithoutMount(tmp_path)) == TemplateListing([])


def test_a_store_that_is_not_mounted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / MOUNT_ID).mkdir()
    for helper in (StoreHelper(tmp_path), StoreHelper(tmp_path / "nowhere")):
        with pytest.raises((TransferError, OSError)) as refused:
            listing(helper)
        if isinstance(refused.value, TransferError):
            assert refused.value.code is TransferFailure.STORE_NOT_MOUNTED


@pytest.mark.parametrize("number", [5, 116, 13])  # EIO, ESTALE, EACCES
def test_an_unreadable_template_fails_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for account in ("1", "2"):
        (tmp_path / f"template/tmpl/{account}/7").mkdir(parents=True)
    names = descriptors.list_names
    calls: list[int] = []

    def failing(directory: int) -> list[str]:
        calls.append(directory)
        if len(calls) == 3:  # the second account's
            raise OSError(number, os.strerror(number))
        return names(directory)

    monkeypatch.setattr(published_templates, "list_names", failing)
    with pytest.raises(TransferError):
        listing(HelperWithoutMount(tmp_path))
