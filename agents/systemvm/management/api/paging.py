# SPDX-License-Identifier: Apache-2.0
"""Pages of lists: which rows `page` and `pagesize` name (BaseListCmd.java)."""

from __future__ import annotations

from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import Arguments, ParameterType, optional

MAX_PAGE_SIZE = 500

#: Every list command takes these.
PAGING = (
    optional("keyword", ParameterType.STRING, "keep rows whose name contains this text"),
    optional("page", ParameterType.INTEGER, "the page to answer, from 1; needs pagesize"),
    optional("pagesize", ParameterType.INTEGER, f"rows a page, at most {MAX_PAGE_SIZE}; -1 for all rows"),
)


def page_window(arguments: Arguments) -> slice:
    """The rows to answer; ApiError 431 unless both or none are given, except pagesize=-1, which means all.

    Page 0 is the first page, as in CloudStack: clients that count from 0 rely on it.
    """
    page, size = arguments.get("page"), arguments.get("pagesize")
    if size == -1 and page is None:
        return slice(None)
    if page is None and size is None:
        return slice(0, MAX_PAGE_SIZE)
    if page is None or size is None:
        raise parameter_error("page and pagesize must be given together")
    if page < 0:
        raise parameter_error(f"Invalid value for parameter page: {page}; pages count from 1")
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise parameter_error(f"Invalid value for parameter pagesize: {size}; 1 to {MAX_PAGE_SIZE}")
    first = max(page - 1, 0) * size
    return slice(first, first + size)
