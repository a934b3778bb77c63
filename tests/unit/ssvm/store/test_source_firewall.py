# SPDX-License-Identifier: Apache-2.0
"""What the mount helper opens in the guest's firewall for downloads, and what nothing opens."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from systemvm.guest import firewall
from systemvm.guest.paths import GuestPaths
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store import source_firewall
from systemvm.ssvm.store.source_firewall import SourceFirewall, script
from systemvm.ssvm.store_messages import OpenSources, SourceServer
from systemvm.wire.transfer_failure import TransferFailure

RULES = Path(__file__).resolve().parents[4] / "appliances/ssvm/nftables.conf"
BOOT = {
    "type": "secstorage", "name": "s-1-VM", "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0",
    "eth1ip": "10.11.0.100", "eth1mask": "255.255.255.0", "mgmtcidr": "10.11.0.0/24",
    "eth2ip": "203.0.113.100", "eth2mask": "255.255.255.0", "eth3ip": "10.12.0.100",
    "eth3mask": "255.255.255.0", "secondaryStorageServerAddress": "10.12.0.2", "host": "169.254.0.1",
    "fetch_denied": "203.0.113.96/27",
}  # fmt: skip


def script_of(**order: Any) -> list[str]:
    return script(firewall.declared_sets(RULES.read_text()), BOOT, OpenSources(**order)).splitlines()


def test_one_transaction_replaces_all_that_was_open() -> None:
    lines = script_of(
        allowed_sites=["10.11.0.50", "10.12.0.0/30"],
        proxy="10.11.0.9:3128",
        servers=[SourceServer("203.0.113.120", 443)],
        endpoints=[SourceServer("10.12.0.2", 8080)],
    )
    assert lines[:8] == [
        f"flush set inet systemvm {name}{suffix}" for name in source_firewall.SETS for suffix in ("", "6")
    ]
    assert lines[8:] == [
        # without the server of the store, which no setting opens
        "add element inet systemvm fetch_allowed { 10.11.0.50/32, 10.12.0.0/31, 10.12.0.3/32 }",
        "add element inet systemvm fetch_proxy { 10.11.0.9 . 3128 }",
        "add element inet systemvm fetch_servers { 203.0.113.120 . 443 }",
        "add element inet systemvm fetch_stores { 10.12.0.2 . 8080 }",
    ]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.0.1", "10.11.0.7", "203.0.113.100", "s3.example.test", "::1"]
)
def test_no_bucket_is_on_this_vm_or_in_the_management_network(address: str) -> None:
    with pytest.raises(TransferError) as refused:
        script_of(endpoints=[SourceServer(address, 443)])
    assert refused.value.code is TransferFailure.REQUEST_INVALID


def test_nothing_is_left_open() -> None:
    assert all(line.startswith("flush set ") for line in script_of())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "169.254.0.1", "10.11.0.7", "10.12.0.2", "10.12.0.77", "203.0.113.100", "::1",
        "0.0.0.0", "name.example.test", "203.0.113.120; add rule", "224.0.0.1",
    ],
)  # fmt: skip
def test_what_cannot_be_another_ssvm_stays_closed(address: str) -> None:
    with pytest.raises(TransferError) as refused:
        script_of(servers=[SourceServer(address, 443)])
    assert refused.value.code is TransferFailure.REQUEST_INVALID


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(TransferError):
        script_of(servers=[SourceServer("203.0.113.120", port)])


@pytest.mark.parametrize("site", ["0.0.0.0/0", "169.254.0.0/16", "10.12.0.2", "x; flush ruleset", "{ }"])
def test_a_site_that_nothing_opens_is_skipped(site: str) -> None:
    assert all(line.startswith("flush set ") for line in script_of(allowed_sites=[site]))


@pytest.mark.parametrize("proxy", ["127.0.0.1:3128", "169.254.0.1:80", "https://p"])
def test_a_forbidden_proxy_changes_nothing(tmp_path: Path, proxy: str) -> None:
    paths = machine(tmp_path)
    with pytest.raises(TransferError) as refused:
        SourceFirewall(paths).open_sources(0, OpenSources(proxy=proxy))
    assert refused.value.code is TransferFailure.REQUEST_INVALID


def test_an_image_without_the_set_says_so() -> None:
    with pytest.raises(TransferError, match="this image cannot open its firewall"):
        script({}, BOOT, OpenSources(servers=[SourceServer("203.0.113.120", 443)]))


def test_without_rules_there_is_nothing_to_open(tmp_path: Path) -> None:
    SourceFirewall(GuestPaths(tmp_path)).open_sources(0, OpenSources(["10.11.0.50"]))


def test_a_failure_of_nft_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*command: Any, **options: Any) -> Any:
        return subprocess.CompletedProcess(command, 1, "", "Operation not permitted")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(TransferError) as failed:
        SourceFirewall(machine(tmp_path)).open_sources(0, OpenSources(["10.11.0.50"]))
    assert failed.value.code is TransferFailure.INTERNAL


def machine(root: Path) -> GuestPaths:
    paths = GuestPaths(root)
    paths.nftables.parent.mkdir(parents=True)
    paths.nftables.write_text(RULES.read_text())
    paths.cache.mkdir(parents=True)
    paths.cmd_line_json.write_text(json.dumps({"cmd_line": BOOT}))
    return paths
