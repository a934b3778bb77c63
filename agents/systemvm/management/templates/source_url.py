# SPDX-License-Identifier: Apache-2.0
"""What can be said of a URL before anything is fetched: its form, and whether its extension fits the format.

Where it may lead is the SSVM's decision (its policy sees the addresses and every redirect), so that there
is one place to get it right.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from systemvm.wire.storage import ImageFormat

MAX_LENGTH = 2048
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
#: Extensions that say which format a file is; any other says nothing (reference 2.8).
_EXTENSIONS: dict[str, frozenset[ImageFormat]] = {
    ".qcow2": frozenset({ImageFormat.QCOW2}),
    ".img": frozenset({ImageFormat.QCOW2, ImageFormat.RAW}),
    ".raw": frozenset({ImageFormat.RAW}),
    ".iso": frozenset({ImageFormat.ISO}),
    ".vhd": frozenset(),
    ".vhdx": frozenset(),
    ".ova": frozenset(),
    ".vmdk": frozenset(),
    ".tar": frozenset(),
    ".metalink": frozenset(),
}


def check(url: str, image_format: ImageFormat) -> None:
    """ValueError that says what a user can do about it."""
    if len(url) > MAX_LENGTH:
        raise ValueError(f"a URL may have {MAX_LENGTH} characters")
    if any(character.isspace() or character < "!" for character in url):
        raise ValueError("a URL holds no blanks; write them as %20")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"this is not a URL: {error}") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError(f"only http and https URLs can be downloaded, not {parts.scheme or 'none'}")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    if port == 0:
        raise ValueError("the URL's port is 0")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds a user or password; serve the image without")
    _check_extension(parts.path, image_format)


def _check_extension(path: str, image_format: ImageFormat) -> None:
    name = path.rpartition("/")[2].lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    dot = name.rfind(".")
    fitting = _EXTENSIONS.get(name[dot:]) if dot >= 0 else None
    if fitting is not None and image_format not in fitting:
        names = " or ".join(sorted(fit.value for fit in fitting)) or "no format of this release"
        raise ValueError(f"a file named *{name[dot:]} is {names}, but format={image_format.value} was given")
