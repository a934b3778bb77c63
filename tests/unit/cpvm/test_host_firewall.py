# SPDX-License-Identifier: Apache-2.0
"""The firewall for hosts with consoles of their own: what is opened, and what no order opens."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from systemvm.cpvm.host_firewall import MAX_ADDRESSES, OrderError, main, script
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments

RULES = (Path(__file__).parents[3] / "appliances/cpvm/nftables.conf").read_text()
BOOT = {
    "type": "consoleproxy", "name": "v-2-VM", "host": "10.11.0.7", "port": "8250",
    "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0", "eth1ip": "10.11.0.101", "eth1mask": "255.255.255.0",
    "mgmtcidr": "10.11.0.0/24", "localgw": "10.11.0.1", "eth2ip": "203.0.113.100",
    "eth2mask": "255.255.255.0", "storageip": "10.12.0.9", "storagenetmask": "255.255.255.0",
}  # fmt: skip


def test_exactly_the_hosts_are_opened() -> None:
    text = script(RULES, BOOT, ["10.11.0.31", "198.51.100.4", "2001:db8::4"])
    assert text.splitlines() == [
        "flush set inet systemvm console_hosts",
        "flush set inet systemvm console_hosts6",
        "add element inet systemvm console_hosts { 10.11.0.31/32, 198.51.100.4/32 }",
        "add element inet systemvm console_hosts6 { 2001:db8::4/128 }",
    ]
    assert script(RULES, BOOT, []).count("\n") == 2, "an empty list closes it"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "169.254.0.1", "224.0.0.1", "203.0.113.100", "10.11.0.7", "10.11.0.1",
        "10.12.0.2", "0.0.0.0", "::ffff:10.11.0.31",
    ],
)  # fmt: skip
def test_no_order_opens_parts_of_the_cloud(address: str) -> None:
    with pytest.raises(OrderError):
        script(RULES, BOOT, ["10.11.0.31", address])


@pytest.mark.parametrize(
    "order",
    [None, {}, "10.11.0.31", [10], [None], ["10.11.0.0/24"], ["x"], ["10.11.0.31 }; flush ruleset"],
     ["10.11.0.31"] * (MAX_ADDRESSES + 1)],
)  # fmt: skip
def test_what_is_no_list_of_addresses_changes_nothing(order: Any) -> None:
    with pytest.raises(OrderError):
        script(RULES, BOOT, order)


def test_an_older_image_says_that_it_cannot() -> None:
    with pytest.raises(OrderError, match="image"):
        script("table inet systemvm { }", BOOT, [])


@pytest.mark.parametrize("line", ["", "no json\n", "[" * 100_000, '["127.0.0.1"]\n'])
def test_a_wrong_order_is_answered_with_its_error(tmp_path: Path, line: str) -> None:
    paths = GuestPaths(tmp_path)
    paths.nftables.parent.mkdir(parents=True)
    paths.nftables.write_text(RULES)
    text = boot_arguments.format(list(BOOT.items()))
    store(text, boot_arguments.parse(text), paths)
    answer = io.StringIO()
    assert main(["--root", str(tmp_path)], io.StringIO(line), answer) == 1
    assert json.loads(answer.getvalue())["error"]
