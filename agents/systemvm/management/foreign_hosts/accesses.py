# SPDX-License-Identifier: Apache-2.0
"""The hosts of `managementd.yaml`, with their passwords and CAs from files of root's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from systemvm.host.config_file import ConfigError
from systemvm.management.config import ForeignHostConfig
from systemvm.management.foreign_hosts.access import ForeignHypervisor, HostAccess
from systemvm.wire.console import TargetTls


def read_accesses(hosts: Iterable[ForeignHostConfig]) -> dict[str, HostAccess]:
    """Return the access to each host by its name.

    Raises: ConfigError when a file cannot be read.
    """
    return {host.name: _read(host) for host in hosts}


def _read(host: ForeignHostConfig) -> HostAccess:
    ca_pem = "" if host.ca_file is None else _text(host, host.ca_file)
    return HostAccess(
        hypervisor=ForeignHypervisor(host.hypervisor),
        url=host.url,
        username=host.username,
        password=_text(host, host.password_file).strip("\n"),
        tls=TargetTls(ca_pem=ca_pem, fingerprint=host.fingerprint),
    )


def _text(host: ForeignHostConfig, path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"hosts: {host.name}: cannot read {path}: {why}") from None
