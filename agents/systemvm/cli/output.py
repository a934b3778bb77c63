# SPDX-License-Identifier: Apache-2.0
"""How results are printed: tables and coloured states for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = {"Up": "green", "Running": "green", "Ready": "green", "good": "green"}
_COLOURS |= {"Alert": "red", "Error": "red", "Down": "red", "Disconnected": "red", "error": "red"}
_COLOURS |= {"Starting": "yellow", "Stopping": "yellow", "Connecting": "yellow", "warning": "yellow"}

#: Columns that hold sentences.
_TEXT = {"", "STATUS"}
#: A pipe has no width: nothing is cut or folded there.
_PIPE_WIDTH = 100_000


def format_size(size_bytes: int | None) -> str:
    """Return a number of bytes as people read it; nothing for none.

    >>> format_size(1536 * 1024)
    '1.5 MiB'
    """
    if not size_bytes:
        return ""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{size_bytes} B"
        value /= 1024
    return f"{value:.1f} TiB"


def local_time(unix_ms: int) -> datetime:
    """Return a time of the API in the local time zone."""
    return datetime.fromtimestamp(unix_ms / 1000).astimezone()


def coloured_state(text: str | None) -> Text:
    return Text(text or "", style=_COLOURS.get(text or "", ""))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def with_hint(reason: str, hint: str | None) -> str:
    """Return a note for `print_table`: the reason, and the hint on a line of its own."""
    return f"{reason}\n  hint: {hint}" if hint else reason


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str, notes: Mapping[str, str] | None = None
) -> None:
    """Print rows under their column names, or `empty` when there are none, and `notes` by name below them.

    Only sentences are folded on a narrow terminal: names, addresses and ids must stay whole to be copied.
    """
    if not rows:
        click.echo(empty)
        return
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        view.add_column(column, overflow="fold", no_wrap=column not in _TEXT)
    for row in rows:
        view.add_row(
            # never as markup: users name objects, and write about them
            *[cell if isinstance(cell, Text) else Text(str("" if cell is None else cell)) for cell in row]
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(view)
    for name, text in (notes or {}).items():
        # not folded, so that a command in a hint can be copied
        console.print(Text(f"{name}: {text}", style="yellow"), soft_wrap=True)
