# SPDX-License-Identifier: Apache-2.0
"""The sockets and directories that the SSVM's processes share; a value, so that tests can use others."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen
class Paths:
    mount_root: Path = Path("/mnt/SecStorage")
    fetch_socket: Path = Path("/run/systemvm/fetch.sock")
    store_socket: Path = Path("/run/systemvm/store.sock")
    mount_socket: Path = Path("/run/systemvm/mount.sock")
    serve_socket: Path = Path("/run/systemvm/serve.sock")
    upload_socket: Path = Path("/run/systemvm/upload.sock")
