# SPDX-License-Identifier: Apache-2.0
"""The one file in a form that a client posts (RFC 7578), while it arrives. Sans-IO; `multipart` parses."""

from __future__ import annotations

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from systemvm.service.errors import FailureCode, SystemVmError

#: What can precede the file: other fields, which are ignored.
MAX_PREFIX_BYTES = 64 * 1024
_MAX_PARTS = 32
#: CloudStack's words for a form without a file.
NOT_A_FILE = "received entity is not a file"


class FormError(SystemVmError):
    """The body is not a form with one file; `is_without_file` when it is one without any."""

    code = FailureCode.PROTOCOL

    def __init__(self, message: str, *, is_without_file: bool = False) -> None:
        super().__init__(message)
        self.is_without_file = is_without_file


class FormFile:
    """Takes the body piece by piece, and returns what of it belongs to the file."""

    def __init__(self, content_type: str) -> None:
        """
        Raises: FormError when the content type is not that of a form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind.lower() != "multipart/form-data":
            raise FormError(NOT_A_FILE, is_without_file=True)
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=_MAX_PARTS)
        except (MultipartError, UnicodeError) as error:
            raise FormError(f"boundary of the form is invalid: {error}") from None
        self._start: bytes | None = b""  # of the body, until it is long enough to be known as one
        self._is_file = False  # the part that is read now
        self._prefix_bytes = 0
        self._parts = 0
        self._is_complete = False
        self.has_file = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of the file in `data`.

        Raises: FormError when the body is no form.
        """
        if not self.has_file:
            self._prefix_bytes += len(data)
        if self._start is not None and not (data := self._take_start(data)):
            return []
        pieces: list[bytes] = []
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._is_file = False
                elif self._is_file:
                    pieces.append(bytes(event))
        except MultipartError as error:
            raise FormError(f"form cannot be parsed: {error}") from None
        if not self.has_file and self._prefix_bytes > MAX_PREFIX_BYTES:
            raise FormError(f"form has more than {MAX_PREFIX_BYTES} bytes in front of its file")
        return pieces

    def finish(self) -> None:
        """Check the form at the end of the body.

        Raises: FormError when it ends too early, or has no file.
        """
        try:
            self._parser.close()
        except MultipartError as error:
            raise FormError(f"form cannot be parsed: {error}") from None
        if not self.has_file:
            raise FormError(NOT_A_FILE, is_without_file=True)

    def _take_start(self, data: bytes) -> bytes:
        """Return all of the body so far once it begins with its boundary; nothing while it is too short.

        The parser looks for a boundary in what precedes the first one, and finds it or not by the pieces.
        """
        boundary = b"--" + self._parser.boundary
        start = (self._start or b"") + data
        if len(start) < len(boundary) + 2:
            self._start = start
            return b""
        if not start.startswith((boundary, b"\r\n" + boundary)):
            raise FormError("form cannot be parsed: it does not begin with its boundary")
        self._start = None
        return start

    def _begin(self, part: MultipartSegment) -> None:
        # the parser notices it only when a piece ends in that line: the outcome would depend on the network
        if any("\n" in value for _, value in part.headerlist):
            raise FormError("form cannot be parsed: invalid line break in a header")
        self._is_file = part.filename is not None
        if self._is_file and self.has_file:
            raise FormError("form has more than one file")
        self.has_file = self.has_file or self._is_file
