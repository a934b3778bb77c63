# SPDX-License-Identifier: Apache-2.0
"""The files that browsers may load: read once at the start, found by their exact path.

No request path becomes a path in the file system, so nothing can be traversed, listed or followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from systemvm import web
from systemvm.service.errors import SystemVmError

_PAGE_FOLDER = Path(__file__).with_name("page")
_XTERM_STYLES = Path(web.__file__).with_name("static") / "xterm_styles.js"
_NOVNC_FOLDERS = ("core", "vendor")
#: What else the image has beside noVNC; an image of an earlier release lacks it, and shows screens only.
_XTERM_FILES = ("xterm/lib/xterm.mjs", "xterm/css/xterm.css", "xterm-fit/lib/addon-fit.mjs")
MAX_FILE_BYTES = 1 << 20

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class AssetError(SystemVmError):
    """A file of the image is missing, or must not be served."""


@frozen
class Asset:
    content: bytes
    content_type: str
    etag: str


@frozen
class Assets:
    """`files` by request path, the console's `page`, and the page `refused` for every refusal.

    In the two pages `{base}` stands for the advertised path.
    """

    files: dict[str, Asset]
    page: Asset
    refused: Asset

    @classmethod
    def load(cls, novnc: Path) -> Assets:
        """Read our page's folder, stock noVNC and, beside it, stock xterm.js.

        Raises: AssetError when a file is missing, is a link, or is larger than MAX_FILE_BYTES.
        """
        files = {
            f"/{path.relative_to(_PAGE_FOLDER).as_posix()}": _read(path) for path in _files(_PAGE_FOLDER)
        }
        files["/xterm_styles.js"] = _read(_XTERM_STYLES)
        page, refused = files.pop("/console.html"), files.pop("/refused.html")
        for folder in _NOVNC_FOLDERS:
            for path in _files(novnc / folder):
                if path.suffix == ".js":
                    files[f"/novnc/{path.relative_to(novnc).as_posix()}"] = _read(path)
        for name in _XTERM_FILES:
            if (novnc.parent / name).is_file():
                files[f"/{name}"] = _read_plain(novnc.parent / name)
        if "/novnc/core/rfb.js" not in files:
            raise AssetError(f"noVNC is missing: {novnc}/core/rfb.js does not exist")
        return cls(files=files, page=page, refused=refused)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        raise AssetError(f"cannot serve {folder}: it is a symbolic link")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink():
            raise AssetError(f"cannot serve {path}: it is a symbolic link")
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _read_plain(path: Path) -> Asset:
    if path.is_symlink():
        raise AssetError(f"cannot serve {path}: it is a symbolic link")
    return _read(path)


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    if len(content) > MAX_FILE_BYTES:
        raise AssetError(f"{path} is too large: {len(content)} bytes, the maximum is {MAX_FILE_BYTES}")
    content_type = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    return Asset(content, content_type, '"' + hashlib.sha256(content).hexdigest()[:32] + '"')
