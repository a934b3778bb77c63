# SPDX-License-Identifier: Apache-2.0
"""Transfer limits, scaled for a slow machine."""

from __future__ import annotations

from systemvm.ssvm.limits import DEFAULT


def test_timeouts_for_a_source_scale_and_limits_of_content_do_not() -> None:
    slow = DEFAULT.scaled(5.0)
    assert slow.stall_timeout_s == 5 * DEFAULT.stall_timeout_s
    assert slow.slow_window_s == 5 * DEFAULT.slow_window_s
    assert slow.headers_timeout_s == 5 * DEFAULT.headers_timeout_s
    assert slow.connect_timeout_s == 5 * DEFAULT.connect_timeout_s
    assert slow.retry_budget_s == 5 * DEFAULT.retry_budget_s
    assert slow.lookup_timeout_s == 5 * DEFAULT.lookup_timeout_s
    # limits of content do not depend on speed
    assert slow.slow_window_bytes == DEFAULT.slow_window_bytes
    assert slow.max_virtual_size_bytes == DEFAULT.max_virtual_size_bytes
    assert slow.max_ratio == DEFAULT.max_ratio
    assert DEFAULT.scaled(1.0) == DEFAULT
