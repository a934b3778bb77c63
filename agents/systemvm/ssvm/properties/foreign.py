# SPDX-License-Identifier: Apache-2.0
"""Reads template.properties of any cloud: of ours, of CloudStack's agent, or of its createtmplt.sh.

CloudStack's rules (TemplateLocation.java): `uniquename` and `virtualsize` must be there, and one format with
a file name and two sizes above zero. Java escapes what is not ASCII; the script writes UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.properties import java_properties
from systemvm.ssvm.store_messages import require_file_name
from systemvm.wire.storage import ImageFormat, ListedTemplate
from systemvm.wire.transfer_failure import TransferFailure

MAX_TEXT = 200
_MAX_DIGITS = 19  # so that a number fits into 64 bits, also those of a database


@frozen
class ForeignProperties:
    """What is needed to show a template and to use its file."""

    unique_name: str
    description: str
    format: ImageFormat
    file_name: str
    size_bytes: int
    virtual_size_bytes: int
    checksum: str
    public: bool
    hvm: bool
    job_id: str


class PropertiesError(TransferError):
    """A file that describes no template that can be used; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(TransferFailure.STORE_FAILED, message)


def parse(data: bytes) -> ForeignProperties:
    """Parse the content of template.properties.

    Raises: PropertiesError when CloudStack would not load it either, or its format is unknown here.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    values = java_properties.parse(text)
    unique_name = values.get("uniquename", "")
    if not unique_name:
        raise PropertiesError("uniquename is missing")
    if _number(values, "virtualsize") <= 0:
        raise PropertiesError("virtualsize is missing or not above 0")
    image_format, file_name, size_bytes, virtual_size_bytes = _format(values)
    return ForeignProperties(
        unique_name=unique_name[:MAX_TEXT],
        description=values.get("description", "")[:MAX_TEXT],
        format=image_format,
        file_name=file_name,
        size_bytes=size_bytes,
        virtual_size_bytes=virtual_size_bytes,
        checksum=values.get("checksum", "")[:255],
        public=values.get("public") == "true",
        hvm=values.get("hvm", "true") == "true",
        job_id=values.get("jobid", ""),
    )


def _format(values: Mapping[str, str]) -> tuple[ImageFormat, str, int, int]:
    """Return the first format whose entry is complete, with its file name and sizes."""
    problem = "no format is present that this release knows"
    for image_format in ImageFormat:
        extension = image_format.extension
        if values.get(extension) != "true":
            continue
        size, virtual = (_number(values, f"{extension}.{name}") for name in ("size", "virtualsize"))
        file_name = values.get(f"{extension}.filename", "")
        if size <= 0 or virtual <= 0 or not file_name:
            problem = f"the entry of {extension} is not complete"
            continue
        try:
            return image_format, require_file_name(file_name), size, virtual
        except TransferError as error:
            problem = error.message
    raise PropertiesError(problem)


def _number(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else 0


def listed(
    found: ForeignProperties, account_id: int, template_id: int, modified_unix_s: float, problem: str
) -> ListedTemplate:
    """Return a template of a listing; with a `problem` its file is damaged."""
    return ListedTemplate(
        account_id,
        template_id,
        found.job_id,
        unique_name=found.unique_name,
        description=found.description,
        format=found.format,
        file_name=found.file_name,
        size_bytes=found.size_bytes,
        virtual_size_bytes=found.virtual_size_bytes,
        checksum=found.checksum,
        public=found.public,
        hvm=found.hvm,
        modified_unix_s=modified_unix_s,
        problem=problem,
        is_damaged=bool(problem),
    )
