# SPDX-License-Identifier: Apache-2.0
"""Notifications to the service manager."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from systemvm.service.sd_notify import watchdog_interval_s
from systemvm.service.systemd_notifier import SystemdNotifier, feed_watchdog


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        yield channel


def test_ready_carries_the_status(manager: socket.socket) -> None:
    notifier = SystemdNotifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.status("Up, connected to\nhost-1")
    assert manager.recv(1000) == b"STATUS=Up, connected to host-1"
    notifier.status("Up, connected to host-1")  # nothing new, nothing sent
    notifier.ready()
    assert manager.recv(1000) == b"READY=1\nSTATUS=Up, connected to host-1"
    notifier.stopping()
    assert manager.recv(1000) == b"STOPPING=1"


def test_an_abstract_address_is_supported() -> None:
    name = f"systemvm-test-{os.getpid()}-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name)
        channel.settimeout(5)
        SystemdNotifier("@" + name).stopping()
        assert channel.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify"])
def test_an_absent_service_manager_is_not_an_error(address: str | None) -> None:
    SystemdNotifier(address).ready()


def test_the_watchdog_is_fed_twice_a_period(manager: socket.socket) -> None:
    clock = Clock()
    environment = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    loop = feed_watchdog(clock, SystemdNotifier(manager.getsockname()), environment)
    assert loop is not None
    assert manager.recv(100) == b"WATCHDOG=1\nWATCHDOG_USEC=60000000"
    manager.setblocking(False)
    clock.advance(29.9)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    clock.advance(0.2)
    assert manager.recv(100) == b"WATCHDOG=1\nWATCHDOG_USEC=60000000"
    loop.stop()


def test_a_slow_machine_is_given_more_time(manager: socket.socket) -> None:
    clock, slowdown = Clock(), 5.0
    environment = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    loop = feed_watchdog(clock, SystemdNotifier(manager.getsockname()), environment, lambda: slowdown)
    assert loop is not None
    assert manager.recv(100) == b"WATCHDOG=1\nWATCHDOG_USEC=300000000"
    slowdown = 1.0
    clock.advance(30)
    assert manager.recv(100) == b"WATCHDOG=1\nWATCHDOG_USEC=60000000"
    loop.stop()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
    ],
)
def test_watchdog_interval_is_half_the_period_of_this_process(
    environment: dict[str, str], interval_s: float | None
) -> None:
    assert watchdog_interval_s(environment, 7) == interval_s
