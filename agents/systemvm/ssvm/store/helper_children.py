# SPDX-License-Identifier: Apache-2.0
"""The children of a root helper: those that run a call, and those that wait for another of the same group.

A fork costs as much as the shortest calls do, and a download makes several of them. A child that has ended
its call is kept for a moment, and serves nobody but the caller and the store that it was forked for.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

from attrs import define

from systemvm.ssvm.helper_call import HelperCall, Operation, read_call
from systemvm.ssvm.store.helper_child import MAX_REQUEST_BYTES, run_child

KEPT_S = 2.0
MAX_KEPT = 8
#: Then it is replaced, so that nothing can accumulate in it.
MAX_CALLS = 64

T = TypeVar("T")


@define(eq=False)
class Child(Generic[T]):
    """One process; `work` is what it does, None while it waits."""

    pid: int
    pidfd: int
    channel: socket.socket
    group: str
    work: T | None
    calls: int = 1
    idle_since_s: float = 0.0
    is_killed: bool = False

    def kill(self) -> None:
        self.is_killed = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class Children(Generic[T]):
    """Starts, keeps and reaps; `on_ended` gets the work, and the status of a child that exited with it."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        operations: Mapping[str, Operation],
        monotonic_s: Callable[[], float],
        on_ended: Callable[[T, int], None],
    ) -> None:
        self._selector = selector
        self._operations = operations
        self._monotonic_s = monotonic_s
        self._on_ended = on_ended
        self._kept: list[Child[T]] = []  # those that waited longest first

    @property
    def next_end_s(self) -> float | None:
        """When a child has waited long enough, in seconds on CLOCK_MONOTONIC."""
        return self._kept[0].idle_since_s + KEPT_S if self._kept else None

    def run(self, connection: socket.socket, call: HelperCall, line: bytes, work: T) -> Child[T]:
        """Have a child run a call and send its response over `connection`.

        Raises: OSError when there is no process for it.
        """
        for child in reversed(self._kept):
            if child.group == call.group and len(line) <= MAX_REQUEST_BYTES:
                self._kept.remove(child)
                try:
                    socket.send_fds(child.channel, [line], [connection.fileno()])
                except OSError:  # it was killed, which the selector has not reported yet
                    break
                child.work, child.calls = work, child.calls + 1
                return child
        return self._fork(connection, call, work)

    def end_kept(self, at_least_s: float = 0.0) -> None:
        """Have the children end that have waited for `at_least_s` seconds."""
        now_s = self._monotonic_s()
        while self._kept and now_s - self._kept[0].idle_since_s >= at_least_s:
            self._dismiss(self._kept.pop(0))

    def _fork(self, connection: socket.socket, call: HelperCall, work: T) -> Child[T]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                run_child(connection, call, theirs, partial(read_call, self._operations, call.uid))
        ours.setblocking(False)
        child = Child(pid, os.pidfd_open(pid), ours, call.group, work)
        self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._ended, child))
        self._selector.register(ours, selectors.EVENT_READ, partial(self._done, child))
        return child

    def _done(self, child: Child[T]) -> None:
        """Read that a call has ended; a child that ends itself is reported by its pidfd."""
        try:
            has_ended_call = bool(child.channel.recv(1))
        except BlockingIOError:
            return
        except OSError:
            has_ended_call = False
        if not has_ended_call:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.channel)
            return
        work, child.work = child.work, None
        if child.calls >= MAX_CALLS:
            self._dismiss(child)
        elif not child.is_killed:
            child.idle_since_s = self._monotonic_s()
            self._kept.append(child)
            if len(self._kept) > MAX_KEPT:
                self._dismiss(self._kept.pop(0))
        if work is not None:
            self._on_ended(work, 0)

    def _dismiss(self, child: Child[T]) -> None:
        """Have a child end that waits: it reads the end of its channel."""
        with contextlib.suppress(OSError):
            child.channel.shutdown(socket.SHUT_WR)

    def _ended(self, child: Child[T]) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        child.channel.close()
        with contextlib.suppress(ValueError):
            self._kept.remove(child)
        work, child.work = child.work, None
        if work is not None:
            self._on_ended(work, status)
