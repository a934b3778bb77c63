# SPDX-License-Identifier: Apache-2.0
"""Progress output of a lab: one line for each step, and on a terminal what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Step(Protocol):
    """A step of the start or stop."""

    def waits_for(self, text: str, percent: float | None = None) -> None:
        """Show what the step waits for now."""

    def explain(self, text: str) -> None:
        """Print permanently why the step takes so long."""


class Reporter(Protocol):
    def step(self, title: str) -> AbstractContextManager[Step]: ...

    def print_line(self, text: str) -> None: ...


class NullStep:
    """A step without output."""

    def waits_for(self, text: str, percent: float | None = None) -> None:
        pass

    def explain(self, text: str) -> None:
        pass


class NullReporter:
    """A reporter without output, for tests."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        yield NullStep()

    def print_line(self, text: str) -> None:
        pass


class _TerminalStep:
    """A progress line on a terminal, else a new line whenever the text changes."""

    def __init__(self, console: Console, progress: Progress | None, title: str) -> None:
        self._console = console
        self._progress = progress
        self._title = title
        self._last = ""
        self._task = progress.add_task(title, total=None, detail="") if progress is not None else None

    def waits_for(self, text: str, percent: float | None = None) -> None:
        if self._progress is not None and self._task is not None:
            total = 100 if percent is not None else None
            self._progress.update(self._task, detail=text, total=total, completed=percent or 0)
        elif text != self._last:
            self._console.print(f"  … {self._title}: {text}", highlight=False, markup=False, soft_wrap=True)
        self._last = text

    def explain(self, text: str) -> None:
        first, *more = text.splitlines()
        for line in (f"  ! {self._title}: {first}", *(f"    {each}" for each in more)):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class TerminalReporter:
    """A reporter that prints for people."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        began = time.monotonic()
        try:
            if self.console.is_terminal:
                columns = (
                    SpinnerColumn(),
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=24),
                    TimeElapsedColumn(),
                    TextColumn("[dim]{task.fields[detail]}"),
                )
                with Progress(*columns, console=self.console, transient=True) as progress:
                    yield _TerminalStep(self.console, progress, title)
            else:
                yield _TerminalStep(self.console, None, title)
        except BaseException:
            self.console.print(f"[red]✗[/red] {title}", highlight=False)
            raise
        took_s = time.monotonic() - began
        self.console.print(f"[green]✓[/green] {title} [dim]{took_s:.1f} s[/dim]", highlight=False)

    def print_line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
