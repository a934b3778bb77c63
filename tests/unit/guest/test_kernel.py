# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of each NIC."""

from __future__ import annotations

from pathlib import Path

from systemvm.guest import kernel
from systemvm.guest.paths import GuestPaths


def test_router_advertisements_are_ignored_on_every_nic(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    for device in ("eth0", "eth2"):
        for family in ("ipv4", "ipv6"):
            (paths.root / f"proc/sys/net/{family}/conf/{device}").mkdir(parents=True)
        for name in ("accept_ra", "autoconf", "accept_redirects"):
            (paths.root / f"proc/sys/net/ipv6/conf/{device}/{name}").write_text("1")
    kernel.apply(kernel.settings(["eth0", "eth2"], {}), paths)
    for device in ("eth0", "eth2"):
        for name in ("accept_ra", "autoconf", "accept_redirects"):
            assert (paths.root / f"proc/sys/net/ipv6/conf/{device}/{name}").read_text() == "0"
        # a setting that the kernel lacks is skipped
        assert not (paths.root / f"proc/sys/net/ipv4/conf/{device}/accept_redirects").exists()


def test_disable_rp_filter_applies_to_every_nic() -> None:
    assert not [path for path in kernel.settings(["eth0"], {}) if "rp_filter" in path]
    wanted = kernel.settings(["eth0"], {"disable_rp_filter": "true"})
    assert {path for path in wanted if "rp_filter" in path} == {
        "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv4/conf/eth0/rp_filter",
    }  # fmt: skip
