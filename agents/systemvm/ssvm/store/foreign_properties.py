# SPDX-License-Identifier: Apache-2.0
"""Describes the templates on a mounted store, whatever cloud has written them."""

from __future__ import annotations

import errno
import os
import stat

from systemvm.ssvm.properties.foreign import PropertiesError, listed, parse
from systemvm.ssvm.properties.template import FILE_NAME, MAX_BYTES
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store.openat2 import open_beneath
from systemvm.wire.storage import ListedTemplate

#: A link or a mount in a path: its administrator's doing, and no failure of the store.
_LEADS_AWAY = frozenset({errno.ELOOP, errno.EXDEV})
MISSING = "there is no such template"


def describe(mount: int, install: str, account_id: int, template_id: int) -> ListedTemplate:
    """Return one template of a listing, with `problem` when it cannot be used as it is.

    Raises: OSError when the store cannot be read: a template that is not listed would look lost.
    """

    def unusable(problem: str, modified_unix_s: float = 0.0) -> ListedTemplate:
        return ListedTemplate(account_id, template_id, problem=problem, modified_unix_s=modified_unix_s)

    try:
        file = open_beneath(mount, f"{install}/{FILE_NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return unusable(f"{FILE_NAME} is missing" if _is_there(mount, install) else MISSING)
    except NotADirectoryError:
        return unusable("it is not a directory")
    except OSError as error:
        if error.errno not in _LEADS_AWAY:
            raise
        return unusable("it is a link, or contains one in place of its properties")
    with opened(file):
        state = os.fstat(file)
        modified = state.st_mtime
        if not stat.S_ISREG(state.st_mode):
            return unusable(f"{FILE_NAME} is not a file", modified)
        data = os.read(file, MAX_BYTES)
    try:
        found = parse(data)
    except PropertiesError as error:
        return unusable(f"{FILE_NAME} is not valid: {error.message}", modified)
    problem = _problem_of_image(mount, f"{install}/{found.file_name}", found.size_bytes)
    return listed(found, account_id, template_id, modified, problem)


def _is_there(mount: int, install: str) -> bool:
    try:
        os.close(open_beneath(mount, install, os.O_PATH | os.O_NOFOLLOW))
    except FileNotFoundError:
        return False
    return True


def _problem_of_image(mount: int, path: str, size_bytes: int) -> str:
    try:
        image = open_beneath(mount, path, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "its file is missing"
    with opened(image):
        state = os.fstat(image)
    if not stat.S_ISREG(state.st_mode):
        return "its file is not a regular file"
    found_bytes = state.st_size
    return "" if found_bytes == size_bytes else f"its file has {found_bytes} bytes, not {size_bytes}"
