# SPDX-License-Identifier: Apache-2.0
"""The whole corpus by name."""

from __future__ import annotations

from collections.abc import Iterator

from image_corpus import archive_cases, disk_cases, vhd_cases, vhdx_cases, vmdk_cases
from image_corpus.case import Case
from systemvm.wire.storage import ImageFormat


def _good() -> Iterator[Case]:
    for name, (image_format, data) in disk_cases.GOOD.items():
        size = 1 << 30 if image_format is ImageFormat.QCOW2 else len(data)
        yield Case(name, image_format, lambda data=data: data, size)  # type: ignore[misc]
    for module in (vhd_cases, vhdx_cases, vmdk_cases, archive_cases):
        yield from module.good()


def _bad() -> Iterator[Case]:
    for name, (image_format, data, code) in disk_cases.BAD.items():
        yield Case(name, image_format, lambda data=data: data, code=code)  # type: ignore[misc]
    for module in (vhd_cases, vhdx_cases, vmdk_cases, archive_cases):
        yield from module.bad()


GOOD = {each.name: each for each in _good()}
BAD = {each.name: each for each in _bad()}
