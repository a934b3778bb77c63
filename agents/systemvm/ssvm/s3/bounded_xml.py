# SPDX-License-Identifier: Apache-2.0
"""A small document as a tree: no document type, hence no entities, and bounds on size, depth and elements."""

from __future__ import annotations

from xml.parsers import expat

from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError

MAX_BYTES = 4 << 20
MAX_DEPTH = 8
MAX_ELEMENTS = 32_768


class XmlError(SystemVmError):
    """A document that cannot be parsed, or that exceeds a bound."""

    code = FailureCode.PROTOCOL


@frozen
class XmlElement:
    """An element by its name without a namespace; `text` is its own, without that of its children."""

    name: str
    text: str = ""
    children: tuple[XmlElement, ...] = ()

    def all(self, name: str) -> list[XmlElement]:
        """Return the children of this name."""
        return [child for child in self.children if child.name == name]

    def text_of(self, name: str) -> str | None:
        """Return the text of the first child of this name; None when there is none."""
        return next((child.text for child in self.children if child.name == name), None)


@frozen
class _OpenElement:
    name: str
    text: list[str] = field(factory=list)
    children: list[XmlElement] = field(factory=list)


class _TreeBuilder:
    def __init__(self) -> None:
        self._open: list[_OpenElement] = []
        self._count = 0
        self.root: XmlElement | None = None

    def start(self, name: str, _attributes: object) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise XmlError(
                f"XML document is too large: more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements"
            )
        self._open.append(_OpenElement(name.rpartition(":")[2]))

    def text(self, data: str) -> None:
        self._open[-1].text.append(data)

    def end(self, _name: str) -> None:
        done = self._open.pop()
        element = XmlElement(done.name, "".join(done.text), tuple(done.children))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element


def _refuse(*_declaration: object) -> None:
    raise XmlError("XML document has a document type, which no answer of S3 has")


def parse(document: bytes) -> XmlElement:
    """Return the root of a document.

    Raises: XmlError when it cannot be parsed, declares anything, or exceeds a bound.
    """
    if len(document) > MAX_BYTES:
        raise XmlError(f"XML document is too large: {len(document)} bytes, the maximum is {MAX_BYTES}")
    builder = _TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    # a document type is the only place that can declare an entity
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        # while it completes an upload, a server sends blanks to keep the connection, even before the start
        parser.Parse(document.lstrip(), True)
    except expat.ExpatError as error:
        raise XmlError(f"XML document cannot be parsed: {expat.ErrorString(error.code)}") from None
    except (UnicodeError, ValueError, LookupError) as error:
        raise XmlError(f"XML document cannot be parsed: {type(error).__name__}") from None
    if builder.root is None:
        raise XmlError("XML document is empty")
    return builder.root
