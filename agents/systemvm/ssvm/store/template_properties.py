# SPDX-License-Identifier: Apache-2.0
"""template.properties: what a template is, beside it on the store, in Java's properties text."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

FILE_NAME = "template.properties"
MAX_BYTES = 64 * 1024
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
_UNESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


@frozen
class TemplateProperties:
    """One template with one image; `job_id` is ours, so that a repeated job finds its own work done."""

    template_id: int
    unique_name: str
    description: str
    public: bool
    hvm: bool
    format: ImageFormat
    file_name: str
    size_bytes: int
    virtual_size_bytes: int
    checksum: str
    job_id: str

    def to_text(self) -> str:
        extension = self.format.extension
        return render(
            {
                "filename": self.file_name,
                "description": self.description,
                "hvm": _bool(self.hvm),
                "size": str(self.size_bytes),
                "virtualsize": str(self.virtual_size_bytes),
                "physicalSize": str(self.size_bytes),
                "id": str(self.template_id),
                "public": _bool(self.public),
                "uniquename": self.unique_name,
                extension: "true",
                f"{extension}.filename": self.file_name,
                f"{extension}.size": str(self.size_bytes),
                f"{extension}.virtualsize": str(self.virtual_size_bytes),
                "checksum": self.checksum,
                "jobid": self.job_id,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> TemplateProperties:
        """Read what `to_text` wrote; TransferError when it is something else."""
        values = read(text)
        try:
            (image_format,) = [known for known in ImageFormat if values.get(known.extension) == "true"]
            return cls(
                template_id=int(values["id"]),
                unique_name=values["uniquename"],
                description=values.get("description", ""),
                public=values.get("public") == "true",
                hvm=values.get("hvm") == "true",
                format=image_format,
                file_name=values["filename"],
                size_bytes=int(values["size"]),
                virtual_size_bytes=int(values["virtualsize"]),
                checksum=values.get("checksum", ""),
                job_id=values.get("jobid", ""),
            )
        except (KeyError, ValueError) as error:
            raise TransferError(
                TransferFailure.STORE_FAILED,
                f"{FILE_NAME} cannot be read: {error}",
                "delete the template and register it again",
            ) from None


def render(values: Mapping[str, str]) -> str:
    """Java's properties text; everything outside of printable ASCII is escaped."""
    return "".join(f"{_escape(key, True)}={_escape(value, False)}\n" for key, value in values.items())


def read(text: str) -> dict[str, str]:
    """The keys and values of properties text, with its comments, continued lines and escapes."""
    values: dict[str, str] = {}
    begun = ""
    for raw in text.splitlines():
        line = begun + raw.lstrip(" \t\f")
        begun = ""
        if not line or line[0] in "#!":
            continue
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun = line[:-1]
            continue
        key, value = _split(line)
        values[_unescape(key)] = _unescape(value)
    return values


def _split(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=: \t\f":
        position += 2 if line[position] == "\\" else 1
    rest = line[position:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    return line[:position], rest


def _escape(text: str, is_key: bool) -> str:
    words = []
    for index, character in enumerate(text):
        if character in _ESCAPES:
            words.append(_ESCAPES[character])
        elif character in "=:#!" or (character == " " and (is_key or index == 0)):
            words.append("\\" + character)
        elif " " <= character <= "~":
            words.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass")
            words += [f"\\u{units[i]:02X}{units[i + 1]:02X}" for i in range(0, len(units), 2)]
    return "".join(words)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    words, position = [], 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\" or position == len(text):
            words.append(character)
            continue
        escaped = text[position]
        position += 1
        digits = text[position : position + 4]
        if escaped == "u" and len(digits) == 4:
            try:
                words.append(chr(int(digits, 16)))
                position += 4
                continue
            except ValueError:
                pass
        words.append(_UNESCAPES.get(escaped, escaped))
    # pairs of UTF-16 units become the characters they stand for
    return "".join(words).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _bool(value: bool) -> str:
    return "true" if value else "false"
