# SPDX-License-Identifier: Apache-2.0
"""Metalink documents, version 4 (RFC 5854) and 3: the mirrors, size and checksums of one file.

By expat, which loads nothing by itself; a document type declaration is refused, and with it every entity. The
document names files, but a name decides nothing here: the job's directory has one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

from attrs import define, field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover_messages import PieceDigests
from systemvm.wire import source_url
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm
from systemvm.wire.source_url import METALINK_MIRROR, SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure

V4, V3 = "urn:ietf:params:xml:ns:metalink", "http://www.metalinker.org/"
MAX_DEPTH = 16
MAX_MIRRORS = 64
MAX_PIECES = 200_000
#: Files whose pieces are larger or more are checked as a whole only.
MAX_PIECE_BYTES, MAX_CHECKED_PIECES = 4 * MIB, 2048
_MAX_TEXT = 4096
_LAST_PRIORITY = 999_999  # RFC 5854, 4.2.16
_SEPARATOR = " "


@frozen
class Pieces:
    """Digests of the parts of a file, each `length_bytes` long but the last."""

    algorithm: ChecksumAlgorithm
    length_bytes: int
    digests: tuple[str, ...] = field(repr=False)

    def for_mover(self, total_bytes: int | None) -> PieceDigests | None:
        """Return them for a file of this size; None when a mover cannot use them.

        A piece waits in the mover's memory, and all digests are in one message to it.
        """
        count = len(self.digests)
        if total_bytes is None or self.length_bytes > MAX_PIECE_BYTES or count > MAX_CHECKED_PIECES:
            return None
        if -(-total_bytes // self.length_bytes) != count:
            return None
        digests = bytes.fromhex("".join(self.digests))
        return PieceDigests(self.algorithm.hashlib_name, self.length_bytes, digests)


@frozen
class Metalink:
    """One file; the mirrors are in the order in which they are to be used."""

    name: str
    mirrors: tuple[SourceUrl, ...]
    size_bytes: int | None = None
    checksum: Checksum | None = None
    pieces: Pieces | None = None


def parse(document: bytes, wanted_name: str | None = None) -> Metalink:
    """Parse a document of one file, or of several with one named `wanted_name`.

    Raises: TransferError when it is not a Metalink, has several files, or no mirror that can be used.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise _invalid(f"line {error.lineno}: {expat.ErrorString(error.code)}") from None
    except (ValueError, LookupError):  # an encoding that is unknown, or is no encoding of text
        raise _invalid("its encoding is not supported") from None
    files = reader.files
    if len(files) > 1:
        files = [each for each in files if each.name == wanted_name]
    if len(files) != 1:
        raise _invalid(f"it describes {len(reader.files)} files")
    return files[0].finish()


def _refuse_doctype(*_: object) -> None:
    raise _invalid("it has a document type declaration")


def _invalid(why: str) -> TransferError:
    return TransferError(
        TransferFailure.METALINK_INVALID,
        f"Metalink is invalid: {why}",
        "register the URL of the image itself",
    )


@define
class _File:
    name: str
    urls: list[tuple[int, int, str]] = field(factory=list)  # priority, position, URL
    hashes: dict[ChecksumAlgorithm, str] = field(factory=dict)
    size: str = ""
    piece_type: str = ""
    piece_length: str = ""
    digests: list[str] = field(factory=list)

    def finish(self) -> Metalink:
        mirrors = []
        for _, _, text in sorted(self.urls):
            try:
                mirrors.append(source_url.parse(text, METALINK_MIRROR))
            except SourceUrlError:
                continue  # ftp, bittorrent and what is not allowed
        if not mirrors:
            raise _invalid("it has no mirror with an http or https URL")
        if self.size and not _is_number(self.size):
            raise _invalid("size is not a number")
        best = max(self.hashes, key=lambda each: each.hex_digits, default=None)
        return Metalink(
            self.name,
            tuple(dict.fromkeys(mirrors)),
            int(self.size) if self.size else None,
            None if best is None else Checksum(best, self.hashes[best]),
            self._pieces(),
        )

    def _pieces(self) -> Pieces | None:
        algorithm = _algorithm(self.piece_type)
        if algorithm is None or not self.digests:
            return None
        length = int(self.piece_length) if _is_number(self.piece_length) else 0
        if not length:
            raise _invalid("length of pieces is not a number")
        if not all(_is_digest(each, algorithm) for each in self.digests):
            raise _invalid("a digest of a piece is not hexadecimal")
        if self.size and -(-int(self.size) // length) != len(self.digests):
            raise _invalid("number of pieces does not match the size")
        return Pieces(algorithm, length, tuple(self.digests))


class _Reader:
    """Collects files from both versions: v4 has `priority`, 1 first; v3 `preference`, 100 first."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self._path: list[str] = []
        self._text = ""
        self._attributes: Mapping[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        namespace, _, name = tag.rpartition(_SEPARATOR)
        if not self._path and (name != "metalink" or namespace not in (V4, V3)):
            raise _invalid("its root is not metalink")
        self._path.append(name if namespace in (V4, V3) else "?")
        if len(self._path) > MAX_DEPTH:
            raise _invalid(f"it is nested more than {MAX_DEPTH} levels deep")
        self._text, self._attributes = "", attributes
        if name == "file" and self._path[-2:-1] in (["metalink"], ["files"]):
            self.files.append(_File(attributes.get("name", "")[:_MAX_TEXT]))
        elif name == "pieces" and self.files:
            self.files[-1].piece_type = attributes.get("type", "")
            self.files[-1].piece_length = attributes.get("length", "")

    def text(self, data: str) -> None:
        self._text += data
        if len(self._text) > _MAX_TEXT:
            raise _invalid(f"a text is longer than {_MAX_TEXT} characters")

    def end(self, tag: str) -> None:
        path, text, self._text = self._path.copy(), self._text.strip(), ""
        self._path.pop()
        if not self.files or "?" in path:
            return
        file, name = self.files[-1], path[-1]
        if name == "url" and path[-2:-1] in (["file"], ["resources"]):
            self._add_url(file, text)
        elif name == "size" and path[-2] == "file":
            file.size = text
        elif name == "hash" and path[-2] in ("file", "verification"):
            algorithm = _algorithm(self._attributes.get("type", ""))
            if algorithm is not None:
                if not _is_digest(text, algorithm):
                    raise _invalid("a checksum is not hexadecimal")
                file.hashes[algorithm] = text.lower()
        elif name == "hash" and path[-2] == "pieces":
            file.digests.append(text.lower())
            if len(file.digests) > MAX_PIECES:
                raise _invalid(f"it has more than {MAX_PIECES} pieces")

    def _add_url(self, file: _File, text: str) -> None:
        attributes = self._attributes
        if len(file.urls) >= MAX_MIRRORS or attributes.get("type", "http") not in ("http", "https"):
            return
        priority = _number(attributes.get("priority"), _LAST_PRIORITY)
        if "preference" in attributes:
            priority = 100 - min(100, _number(attributes["preference"], 0))
        file.urls.append((priority, len(file.urls), text))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else default


def _algorithm(name: str) -> ChecksumAlgorithm | None:
    try:
        return ChecksumAlgorithm.named(name)
    except ValueError:
        return None


def _is_digest(text: str, algorithm: ChecksumAlgorithm) -> bool:
    digits = "0123456789abcdefABCDEF"
    return len(text) == algorithm.hex_digits and all(each in digits for each in text)
