# SPDX-License-Identifier: Apache-2.0
"""Pages of lists: the rows that `page` and `pagesize` select (BaseListCmd.java)."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import MAX_INTEGER, Arguments, Parameter, ParameterType, optional
from systemvm.management.state.listing import Order

MAX_PAGE_SIZE = 500
_DIRECTIONS = ("asc", "desc")

#: Every list command takes these.
PAGING = (
    optional("keyword", ParameterType.STRING, "list only rows whose name contains this text"),
    optional("page", ParameterType.INTEGER, "number of the page, from 1; requires pagesize"),
    optional("pagesize", ParameterType.INTEGER, f"rows on a page, at most {MAX_PAGE_SIZE}; -1 for all rows"),
)


def sorting(keys: Sequence[str]) -> tuple[Parameter, ...]:
    """Return the parameters of a list that is ordered by one of these keys of its rows.

    They are additions: CloudStack's lists have an order of their own.
    """
    if not keys:
        return ()
    return (
        optional("sortby", ParameterType.STRING, "order the rows by this key", choices=tuple(keys)),
        optional("sortorder", ParameterType.STRING, "asc by default; requires sortby", choices=_DIRECTIONS),
    )


def sort_order(arguments: Arguments) -> Order | None:
    """Return what the call orders the rows by; None means the list's own order.

    Raises: ApiError 431 when a direction is given without a key.
    """
    key, direction = arguments.text("sortby"), arguments.text("sortorder")
    if key is None:
        if direction is not None:
            raise parameter_error("sortby", "sortorder requires sortby")
        return None
    return Order(key, descending=direction == "desc")


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
        raise parameter_error(
            "page" if page is None else "pagesize", "page and pagesize must be given together"
        )
    if page < 0:
        raise parameter_error("page", f"Invalid value for parameter page: {page}; the first page is 1")
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise parameter_error(
            "pagesize", f"Invalid value for parameter pagesize: {size}; it must be 1 to {MAX_PAGE_SIZE}"
        )
    if page > MAX_INTEGER // size:  # the number of its last row is one of SQLite's
        raise parameter_error(
            "page", f"Invalid value for parameter page: {page}; the maximum is {MAX_INTEGER // size}"
        )
    first = max(page - 1, 0) * size
    return slice(first, first + size)
