# SPDX-License-Identifier: Apache-2.0
"""Options of `template register` and `iso register` about the source of the image."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

Handler = Callable[..., None]


def source_options(handler: Handler) -> Handler:
    """Add the options; the handler receives the parameters that they make as `source`."""

    @click.option(
        "--checksum",
        help="Digest of the file at URL, hexadecimal or {SHA-256}9f86…; or the URL of a checksum file.",
    )
    @click.option("--signature", metavar="URL", help="OpenPGP signature of the checksum file.")
    @click.option(
        "--source-user",
        metavar="NAME",
        help="Log in at the source with this name; the password is read from the terminal or standard input.",
    )
    @functools.wraps(handler)
    def with_source(
        *arguments: Any, checksum: str | None, signature: str | None, source_user: str | None, **more: Any
    ) -> None:
        source = {"checksum": checksum, "checksumsignature": signature, "sourceusername": source_user}
        if source_user is not None:
            source["sourcepassword"] = _read_password()
        handler(*arguments, source=source, **more)

    return with_source


def _read_password() -> str:
    """Return the password, which is on no command line: other users could read that."""
    if sys.stdin.isatty():
        return str(click.prompt("Password of the source", hide_input=True))
    return sys.stdin.readline().rstrip("\r\n")
