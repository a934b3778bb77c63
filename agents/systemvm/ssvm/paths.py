# SPDX-License-Identifier: Apache-2.0
"""Where the SSVM's parts find each other; one value, so that tests can have another world."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen
class Paths:
    mount_root: Path = Path("/mnt/SecStorage")
    fetch_socket: Path = Path("/run/systemvm/fetch.sock")
    store_socket: Path = Path("/run/systemvm/store.sock")
    mount_socket: Path = Path("/run/systemvm/mount.sock")
