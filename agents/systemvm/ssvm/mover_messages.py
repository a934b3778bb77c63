# SPDX-License-Identifier: Apache-2.0
"""The messages between fetch, its movers and the server that forks them: JSON, one per line or packet."""

from __future__ import annotations

import hashlib

import msgspec
from attrs import field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT, TransferLimits
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.part_size import SMALLEST_BYTES
from systemvm.ssvm.s3.signing import S3Credentials
from systemvm.wire.storage import ImageFormat

#: Descriptors of a mover besides standard error.
CONTROL_FD, SOURCE_FD, DIRECTORY_FD = 3, 4, 5
#: The fork server's end of its SOCK_SEQPACKET pair with fetch, and the longest message there.
FORK_SERVER_FD, MAX_PACKET_BYTES = 3, 4096
#: What a mover writes into the job's directory; publishing gives it its final name.
IMAGE_NAME = "image"
#: Where the image continues after a crash; publishing removes it.
JOURNAL_NAME = "journal"


@frozen
class ObjectTarget:
    """The object that an image becomes; DIRECTORY_FD is then a connection to its server."""

    endpoint: S3Endpoint
    credentials: S3Credentials
    key: str
    journal_key: str  # of the mark of its job
    ca_pem: str | None = None  # trusted besides the system's roots
    part_bytes: int = SMALLEST_BYTES  # kept in memory


@frozen
class UploadBody:
    """What a user uploads, and of the body whose connection comes with this line."""

    total_bytes: int | None = None  # of the file
    is_whole: bool = False  # this body brings all of it: there is no other one


@frozen
class PieceDigests:
    """The digests of the parts of a file as it is sent, each `length_bytes` long but the last."""

    algorithm: str  # as hashlib names it
    length_bytes: int
    digests: bytes = field(repr=False)  # one behind another

    def digest_of(self, index: int) -> bytes:
        size = hashlib.new(self.algorithm, usedforsecurity=False).digest_size
        return self.digests[index * size : (index + 1) * size]


@frozen
class MoverJob:
    """The message that starts a mover; the URL is not in its arguments, which other users can read."""

    job_id: str
    host: str
    authority: str
    target: str = field(repr=False)
    is_tls: bool
    format: ImageFormat
    max_size_bytes: int
    checksum: str | None = None
    source_ca_pem: str | None = None
    announced_bytes: int | None = None  # in the response to the probe
    limits: TransferLimits = DEFAULT
    request_id: str = ""
    authorization: str | None = field(default=None, repr=False)  # the value of that header
    source_id: str = ""  # of the URL and of what is made of it; empty: no journal is written
    member_directory: str | None = None  # the image is the file below it in a tar archive
    quota_bytes: int | None = None  # how large the image can be within its account's limit
    pieces: PieceDigests | None = None
    has_mirrors: bool = False  # one of several servers: size and checksum identify the rest
    object_target: ObjectTarget | None = None  # instead of a directory
    upload: UploadBody | None = None  # there is no server: bodies come from serve
    rate_bytes_per_s: int | None = None  # how fast it receives at first
    is_file: bool = False  # SOURCE_FD is a file on a store, and not a connection
    is_of_store: bool = False  # the connection that comes with this line is one to the S3 server


@frozen
class MoverRate:
    """A line to a mover, without a descriptor: how fast it receives from now on; None is no limit."""

    bytes_per_s: int | None


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
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: TransferError) -> MoverFailure:
        return cls(error.code.value, error.message, error.hint, error.retry_after_s)

    def to_error(self) -> TransferError:
        """Return the error; an unknown code is kept in its message."""
        error = TransferError.from_parts(self.code, self.message, self.hint)
        error.retry_after_s = self.retry_after_s
        return error


@frozen
class MoverReport:
    """A line from a mover: one of its members is set; after a result or a failure it exits."""

    progress: MoverProgress | None = None
    result: MoverResult | None = None
    failure: MoverFailure | None = None
    wants_connection: bool = False  # one more to the same address, with a job line; it goes on meanwhile
    broken: MoverFailure | None = None  # it waits for a job line with a connection, to resume over that
    store_broken: MoverFailure | None = None  # the same, for the connection to the S3 server


@frozen
class ForkServerRequest:
    """To the fork server: fork a mover with the three descriptors of this packet, or kill it."""

    id: int
    kill: bool = False


@frozen
class ForkServerReport:
    """From the fork server, once for each mover."""

    id: int
    exit_code: int = 0  # negative: the number of a signal
    not_started: str = ""  # why there is no process


def encode(message: MoverJob | MoverRate | MoverReport | ForkServerRequest | ForkServerReport) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_job(line: bytes) -> MoverJob:
    return msgspec.convert(msgspec.json.decode(line), type=MoverJob)


def decode_control(line: bytes) -> MoverJob | MoverRate:
    """Parse a line that comes after the first one."""
    message = msgspec.json.decode(line)
    if "bytes_per_s" in message:
        return msgspec.convert(message, type=MoverRate)
    return msgspec.convert(message, type=MoverJob)


def decode_report(line: bytes) -> MoverReport:
    """Parse a line from a mover.

    Raises: ValueError (as msgspec's are) for anything else: a mover reads hostile data.
    """
    return msgspec.convert(msgspec.json.decode(line), type=MoverReport)


def decode_order(packet: bytes) -> ForkServerRequest:
    return msgspec.convert(msgspec.json.decode(packet), type=ForkServerRequest)


def decode_fork_report(packet: bytes) -> ForkServerReport:
    """Parse a report of the fork server, to whose socket movers have no access."""
    return msgspec.convert(msgspec.json.decode(packet), type=ForkServerReport)


def warm_up() -> None:
    """Have msgspec look at the types now, in a process that movers are forked from."""
    line = encode(MoverJob("", "", "", "", False, ImageFormat.RAW, 0))
    decode_job(line)
    encode(MoverReport(MoverProgress(0, 0, 0), MoverResult("", 0, 0, 0)))
