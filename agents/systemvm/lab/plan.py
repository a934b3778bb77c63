# SPDX-License-Identifier: Apache-2.0
"""The lab's plan: its addresses, and the names and paths derived from its root."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from attrs import field, frozen

from systemvm.host.layout import Layout

#: The host from which templates are downloaded; the zone's name server resolves it.
SOURCE_NAME = "images.example.test"
ZONE_NAME = "zone1"


@frozen
class LabNetwork:
    """A bridge in the host's namespace, and the address range of the VMs on it."""

    traffic_type: str
    bridge: str
    host: IPv4Interface
    pool: tuple[IPv4Address, IPv4Address] | None = None


def _network(traffic_type: str, bridge: str, host: str) -> LabNetwork:
    interface = IPv4Interface(host)
    first = interface.network.network_address
    return LabNetwork(traffic_type, bridge, interface, (first + 100, first + 199))


NETWORKS = (
    LabNetwork(
        "control",
        "cloud0",
        IPv4Interface("169.254.0.1/16"),
        (IPv4Address("169.254.1.1"), IPv4Address("169.254.4.254")),
    ),
    _network("management", "cloudbr1", "10.11.0.1/24"),
    _network("public", "cloudbr0", "203.0.113.1/24"),
    _network("storage", "cloudbr2", "10.12.0.1/24"),
    _network("guest", "cloudbr3", "10.13.0.1/24"),
)


@frozen
class ExternalServer:
    """A server in its own namespace, connected to one of the bridges."""

    name: str
    bridge: str
    address: IPv4Interface


SOURCE = ExternalServer("source", "cloudbr0", IPv4Interface("203.0.113.10/24"))
STORAGE = ExternalServer("nfs", "cloudbr2", IPv4Interface("10.12.0.2/24"))
EXTERNAL_SERVERS = (SOURCE, STORAGE)
EXPORT_PATH = "/export/secondary"


def _resolved(path: Path) -> Path:
    return path.resolve()


@frozen
class LabPlan:
    """What follows from a lab's root and ports; several labs can run at once."""

    root: Path = field(converter=_resolved)
    build: Path = field(converter=_resolved)
    page_port: int = 8080
    console_port: int = 8443
    storage_port: int = 8444

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def tag(self) -> str:
        return "sv" + hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def host_namespace(self) -> str:
        return f"{self.tag}-host"

    def namespace_of(self, server: ExternalServer) -> str:
        return f"{self.tag}-{server.name}"

    @property
    def namespaces(self) -> list[str]:
        return [self.host_namespace, *(self.namespace_of(server) for server in EXTERNAL_SERVERS)]

    @property
    def lab(self) -> Path:
        """The lab's own files: logs, the download source's files and keys, the login."""
        return self.root / "lab"

    @property
    def logs(self) -> Path:
        return self.lab / "log"

    @property
    def secondary(self) -> Path:
        """The directory that is exported by NFS, and that the daemon reads on the host."""
        return self.root / "secondary"

    @property
    def source_pages(self) -> Path:
        """The web server's root; tests put files there."""
        return self.lab / "source"

    @property
    def netns_marker(self) -> Path:
        """Exists while this lab is the one that made /run/netns."""
        return self.lab / "made-run-netns"

    @property
    def hosts_file(self) -> Path:
        return self.lab / "hosts"

    @property
    def ports(self) -> dict[str, int]:
        """The ports of this machine's loopback, by name."""
        return {"page": self.page_port, "console": self.console_port, "storage": self.storage_port}

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.page_port}"

    @property
    def console_origin(self) -> str:
        return f"https://127.0.0.1:{self.console_port}"

    @property
    def storage_origin(self) -> str:
        """The origin of links to images and of uploads."""
        return f"https://127.0.0.1:{self.storage_port}"

    @property
    def source_url(self) -> str:
        return f"https://{SOURCE_NAME}"

    @property
    def images(self) -> Path:
        return self.build / "images"
