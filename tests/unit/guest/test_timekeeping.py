# SPDX-License-Identifier: Apache-2.0
"""NTP servers of a system VM."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.guest import timekeeping
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths


def test_servers_by_name_and_by_address_of_both_families(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    timekeeping.install({"ntpserverlist": "0.pool.example,192.0.2.1,2001:db8::123"}, paths)
    assert "NTP=0.pool.example 192.0.2.1 2001:db8::123\n" in paths.time_servers.read_text()
    timekeeping.install({}, paths)
    assert not paths.time_servers.exists(), "the unit starts only if the file exists"


@pytest.mark.parametrize("value", ["a b", "-x", "pool;reboot", "[Time]"])
def test_a_malformed_server_is_an_error(value: str) -> None:
    with pytest.raises(BootError, match="neither a name nor an address"):
        timekeeping.servers({"ntpserverlist": f"192.0.2.1,{value}"})
