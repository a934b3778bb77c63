# SPDX-License-Identifier: Apache-2.0
"""Which certificates of system VMs the command line trusts."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from systemvm.cli.daemon_client import DaemonClient


def trust_for(daemon: DaemonClient, url: str, cacert: Path | None = None) -> ssl.SSLContext | None:
    """Trust the public CA besides the system's roots: it comes from the daemon, over its own socket."""
    if urlsplit(url).scheme != "https":
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=daemon.call("ca.show")["public_root_pem"])
    if cacert is not None:
        context.load_verify_locations(cafile=cacert)
    return context
