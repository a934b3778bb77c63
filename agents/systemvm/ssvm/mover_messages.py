# SPDX-License-Identifier: Apache-2.0
"""What fetch and its mover say to each other over their socketpair: one message a line, JSON."""

from __future__ import annotations

import msgspec
from attrs import frozen

from systemvm.ssvm.limits import DEFAULT, Limits
from systemvm.wire.storage import ImageFormat

#: Descriptors of a mover besides standard error.
CONTROL_FD, SOURCE_FD, DIRECTORY_FD = 3, 4, 5
#: What a mover writes into the job's directory; publishing gives it its final name.
IMAGE_NAME = "image"


@frozen
class MoverJob:
    """The one message to a mover. The URL comes this way because an argument list is visible to others."""

    job_id: str
    host: str
    authority: str
    target: str
    is_tls: bool
    format: ImageFormat
    max_size_bytes: int
    checksum: str | None = None
    source_ca_pem: str | None = None
    announced_bytes: int | None = None  # what the probe saw
    limits: Limits = DEFAULT
    request_id: str = ""


@frozen
class MoverProgress:
    received_bytes: int
    total_bytes: int | None
    written_bytes: int


@frozen
class MoverResult:
    checksum: str
    received_bytes: int
    size_bytes: int
    virtual_size_bytes: int


@frozen
class MoverFailure:
    code: str
    message: str
    hint: str = ""


@frozen
class MoverReport:
    """A line from a mover: one of its members is set, and after a result or a failure it exits."""

    progress: MoverProgress | None = None
    result: MoverResult | None = None
    failure: MoverFailure | None = None
    broken: MoverFailure | None = None  # it waits for a job line with a connection, to go on over that


def encode(message: MoverJob | MoverReport) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_job(line: bytes) -> MoverJob:
    return msgspec.convert(msgspec.json.decode(line), type=MoverJob)


def decode_report(line: bytes) -> MoverReport:
    """ValueError (msgspec's are) when a mover says something else: it read hostile data."""
    return msgspec.convert(msgspec.json.decode(line), type=MoverReport)
