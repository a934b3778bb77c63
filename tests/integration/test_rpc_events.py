# SPDX-License-Identifier: Apache-2.0
"""Events of jobs on the operators' socket."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.unix_socket_lab import Server, directory, server
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix import unix_events

__all__ = ["directory", "server"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_events_come_one_by_one_and_end_with_the_job(server: Server) -> None:
    events = await deferToThread(lambda: list(unix_events(server.path, "a job&=/ü")))
    assert events == [{"job": "a job&=/ü", "number": number} for number in range(3)]
    events = await deferToThread(lambda: list(unix_events(server.path)))
    assert [event["job"] for event in events] == [None] * 3


@pytest_twisted.ensureDeferred
async def test_an_unknown_job_is_refused(server: Server) -> None:
    with pytest.raises(RpcError) as caught:
        await deferToThread(lambda: list(unix_events(server.path, "unknown")))
    assert caught.value.reason == "unknown_job"


@pytest_twisted.ensureDeferred
async def test_a_failing_source_shows_an_incident(server: Server) -> None:
    def read() -> tuple[int, RpcError]:
        count = 0
        try:
            for _ in unix_events(server.path, "broken"):
                count += 1
        except RpcError as error:
            return count, error
        raise AssertionError("no error")

    count, error = await deferToThread(read)
    assert (count, error.code) == (3, -32603)
    assert "hunter2" not in str(error.to_wire()) and error.data["incident"]


@pytest_twisted.ensureDeferred
async def test_disconnecting_ends_the_source(server: Server) -> None:
    def read_one() -> Any:
        events = cast(Generator[Any, None, None], unix_events(server.path, "endless"))
        first = next(events)
        events.close()
        return first

    assert (await deferToThread(read_one))["number"] == 0
    await until(lambda: server.cancelled == 1)
