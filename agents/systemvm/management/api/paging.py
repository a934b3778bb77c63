# SPDX-License-Identifier: Apache-2.0
"""Pages of lists: the rows that `page` and `pagesize` select (BaseListCmd.java)."""

from __future__ import annotations

from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import Arguments, ParameterType, optional

MAX_PAGE_SIZE = 500

#: Every list command takes these.
PAGING = (
    optional("keyword", ParameterType.STRING, "list only rows whose name contains this text"),
    optional("page", ParameterType.INTEGER, "number of the page, from 1; requires pagesize"),
    optional("pagesize", ParameterType.INTEGER, f"rows on a page, at most {MAX_PAGE_SIZE}; -1 for all rows"),
)


def page_window(arguments: Arguments) -> slice:
    """Return the slice of rows on the page that the call asks for; pagesize=-1 means all.

    Page 0 is the first page, as in CloudStack: clients that count from 0 rely on it.

    Raises: ApiError 431 when only one of the two is given, or a value is out of range.
    """
    page, size = arguments.get("page"), arguments.get("pagesize")
    if size == -1 and page is None:
        return slice(None)
    if page is None and size is None:
        return slice(0, MAX_PAGE_SIZE)
    if page is None or size is None:
        raise parameter_error("page and pagesize must be given together")
    if page < 0:
        raise parameter_error(f"Invalid value for parameter page: {page}; the first page is 1")
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise parameter_error(
            f"Invalid value for parameter pagesize: {size}; it must be 1 to {MAX_PAGE_SIZE}"
        )
    first = max(page - 1, 0) * size
    return slice(first, first + size)
