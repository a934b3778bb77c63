# SPDX-License-Identifier: Apache-2.0
"""A connected VNC server behind what the policy of its session demands: a filter, a tap, or both."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filter.filtered_stream import FilteredStream
from systemvm.cpvm.filter.session_filter import SessionFilter
from systemvm.cpvm.recording.tap import RecordingTap
from systemvm.cpvm.recording.tapped_stream import TappedStream
from systemvm.cpvm.target_stream import TargetStream
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.wire.console import ConsolePolicy


@frozen
class FilteredScreen:
    """What the relay reads, what passes of the server's first bytes, and the way of the browser's."""

    stream: TargetStream
    early: bytes
    from_browser: Callable[[bytes], bytes]


def filtered_screen(
    vnc: VncConnection,
    policy: ConsolePolicy,
    tap: RecordingTap | None,
    on_fault: Callable[[FilterError], None],
    must_wait: Callable[[], bool],
) -> FilteredScreen:
    """Return a VNC server behind its session's policy and recording.

    Raises: FilterError when its first bytes cannot be followed.
    """
    if tap is None:
        chosen = SessionFilter(policy, vnc.server_init)
        if not chosen.reads_server:
            return FilteredScreen(vnc.stream, vnc.early, chosen.from_browser)
        stream = FilteredStream(vnc.stream, chosen.from_server, on_fault)
        return FilteredScreen(stream, b"".join(chosen.from_server(vnc.early)), chosen.from_browser)
    if tap.filter.reads_server:
        recorded = FilteredStream(vnc.stream, tap.from_server, on_fault, must_wait)
        return FilteredScreen(recorded, b"".join(tap.from_server(vnc.early)), tap.from_browser)
    tap.copy(vnc.early)
    return FilteredScreen(TappedStream(vnc.stream, tap, must_wait), vnc.early, tap.from_browser)
