# SPDX-License-Identifier: Apache-2.0
"""The published templates of a store, at template/tmpl/ACCOUNT/TEMPLATE as in CloudStack."""

from __future__ import annotations

import os
from contextlib import suppress

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties.template import FILE_NAME, MAX_BYTES, TemplateProperties
from systemvm.ssvm.store import foreign_properties
from systemvm.ssvm.store.descriptors import list_names, opened
from systemvm.ssvm.store.foreign_properties import MISSING
from systemvm.ssvm.store.open_file import NOT_THERE, open_file
from systemvm.ssvm.store.openat2 import open_beneath, open_directory
from systemvm.ssvm.store_messages import OpenedImage, PublishedTemplate, require_number
from systemvm.wire.storage import ListedTemplate
from systemvm.wire.transfer_failure import TransferFailure

TEMPLATES = "template/tmpl"

_MAX_DIGITS = 15  # of a number: templates that are registered later get higher ones, and those must fit, too

#: Account and template.
Place = tuple[int, int]


def find_published(mount: int, account_id: int, template_id: int, job_id: str) -> PublishedTemplate | None:
    """Return the template if this job has published it; None otherwise."""
    account, template = (require_number(number) for number in (account_id, template_id))
    install = f"{TEMPLATES}/{account}/{template}"
    properties = _read_properties(mount, install)
    if properties is None or properties.job_id != job_id:
        return None
    return PublishedTemplate(
        f"{install}/{properties.file_name}",
        properties.size_bytes,
        properties.virtual_size_bytes,
        properties.checksum,
    )


def require_free_place(mount: int, account_id: int, template_id: int, unique_name: str) -> None:
    """Check that no other template has the place of this one: a store can have come from another cloud.

    Raises: TransferError when the place is taken.
    """
    found = _listed(mount, account_id, template_id)
    if found.unique_name and found.unique_name != unique_name:
        raise TransferError(
            TransferFailure.STORE_FAILED,
            f"{TEMPLATES}/{account_id}/{template_id} belongs to another template: {found.unique_name[:80]}",
            "adopt the templates of this store, then register the template again",
        )


def is_unreadable(mount: int, account_id: int, template_id: int) -> bool:
    """Return whether the place of a template has something that cannot be read as one."""
    found = _listed(mount, account_id, template_id)
    return not found.unique_name and found.problem != MISSING


def _listed(mount: int, account_id: int, template_id: int) -> ListedTemplate:
    account, template = (require_number(number) for number in (account_id, template_id))
    return foreign_properties.describe(mount, f"{TEMPLATES}/{account}/{template}", account_id, template_id)


def open_image(mount: int, account_id: int, template_id: int) -> tuple[OpenedImage, int]:
    """Open the file of a template for reading, whoever published it.

    Raises: TransferError `lost` when the template or its file is not there, or is not a regular file.
    """
    account, template = (require_number(number) for number in (account_id, template_id))
    install = f"{TEMPLATES}/{account}/{template}"
    listed = _listed(mount, account_id, template_id)
    if not listed.file_name:
        raise _lost(install)
    try:
        return open_file(mount, f"{install}/{listed.file_name}")
    except OSError as error:
        if error.errno in NOT_THERE:
            raise _lost(install) from None
        raise


def _lost(install: str) -> TransferError:
    return TransferError(
        TransferFailure.LOST,
        f"template is not on its store: {install}",
        "wait until the daemon has downloaded it again",
    )


def parse_place(text: str) -> Place:
    """Parse the start of a page.

    Raises: TransferError unless `text` is ACCOUNT/TEMPLATE.
    """
    account, _, template = text.partition("/")
    if not (account.isdecimal() and template.isdecimal()):
        raise TransferError(
            TransferFailure.REQUEST_INVALID, f"start of the page is not ACCOUNT/TEMPLATE: {text[:80]}"
        )
    return int(account), int(template)


def list_places(mount: int) -> list[Place]:
    """Return the places of all templates in order; none on a store that has never had one."""
    try:
        templates = open_directory(mount, TEMPLATES)
    except FileNotFoundError:
        return []
    found = []
    with opened(templates):
        for account in filter(_is_number, list_names(templates)):
            # the directory of an account is removed with its last template, which can be at this moment
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                opened(open_directory(templates, account)) as directory,
            ):
                found += [(int(account), int(name)) for name in list_names(directory) if _is_number(name)]
    return sorted(found)


def _is_number(name: str) -> bool:
    """Whether a name is a number as CloudStack and this project write it."""
    return name.isascii() and name.isdecimal() and len(name) <= _MAX_DIGITS and str(int(name)) == name


def describe(mount: int, place: Place) -> ListedTemplate:
    """Return what the daemon compares and adopts: the place, the job that published it, its properties."""
    account, template = place
    return foreign_properties.describe(mount, f"{TEMPLATES}/{account}/{template}", account, template)


def _read_properties(mount: int, install: str) -> TemplateProperties | None:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = open_beneath(mount, f"{install}/{FILE_NAME}", flags)
    except FileNotFoundError:  # a link on the way is an error: nothing could be published behind it
        return None
    with opened(file), suppress(TransferError, UnicodeDecodeError, IsADirectoryError):
        return TemplateProperties.from_text(os.read(file, MAX_BYTES).decode("ascii"))
    return None  # a file that cannot be read is replaced
