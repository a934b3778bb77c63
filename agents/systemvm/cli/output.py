# SPDX-License-Identifier: Apache-2.0
"""How results look: tables and coloured states for people, JSON for programs."""

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
#: Who reads a table through a pipe has no edge at which to cut or fold.
_WHOLE_LINES = 100_000


def size(count: int | None) -> str:
    """Bytes as a person reads them.

    >>> size(1536 * 1024)
    '1.5 MiB'
    """
    if not count:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
        value /= 1024
    return f"{value:.1f} TiB"


def moment(unix_ms: int) -> datetime:
    """A time as the API tells it, in the reader's own time zone."""
    return datetime.fromtimestamp(unix_ms / 1000).astimezone()


def state(text: str | None) -> Text:
    return Text(text or "", style=_COLOURS.get(text or "", ""))


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def with_hint(reason: str, hint: str | None) -> str:
    """A note of `table`: what is wrong, and what to do about it on a line of its own."""
    return f"{reason}\n  hint: {hint}" if hint else reason


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str, notes: Mapping[str, str] | None = None
) -> None:
    """Print rows under their column names, or `empty`; `notes` are lines of reason and advice below.

    Only running text is folded on a narrow terminal: names, addresses and ids are there to be copied.
    """
    if not rows:
        click.echo(empty)
        return
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        view.add_column(column, overflow="fold", no_wrap=column not in _TEXT)
    for row in rows:
        view.add_row(
            *[cell if isinstance(cell, Text) else str(cell if cell is not None else "") for cell in row]
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WHOLE_LINES)
    console.print(view)
    for name, text in (notes or {}).items():
        # not folded: what a hint says to type is there to be copied
        console.print(Text(f"{name}: {text}", style="yellow"), soft_wrap=True)
