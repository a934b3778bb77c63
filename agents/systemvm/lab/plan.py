# SPDX-License-Identifier: Apache-2.0
"""The lab's plan: its addresses, and the names and paths that follow from its root."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from attrs import field, frozen

from systemvm.host.layout import Layout

#: What templates are downloaded from; the zone's name server knows it.
SOURCE_NAME = "images.example.test"
ZONE_NAME = "zone1"


@frozen
class Network:
    """A bridge in the host's namespace, and where the addresses of system VMs begin and end."""

    traffic_type: str
    bridge: str
    host: IPv4Interface
    pool: tuple[IPv4Address, IPv4Address] | None = None


def _network(traffic_type: str, bridge: str, host: str) -> Network:
    interface = IPv4Interface(host)
    first = interface.network.network_address
    return Network(traffic_type, bridge, interface, (first + 100, first + 199))


NETWORKS = (
    Network(
        "control",
        "cloud0",
        IPv4Interface("169.254.0.1/16"),
        (IPv4Address("169.254.1.1"), IPv4Address("169.254.4.254")),
    ),
    _network("management", "cloudbr1", "10.11.0.1/24"),
    _network("public", "cloudbr0", "203.0.113.1/24"),
    _network("storage", "cloudbr2", "10.12.0.1/24"),
    Network("guest", "cloudbr3", IPv4Interface("10.13.0.1/24")),
)


@frozen
class Neighbour:
    """A namespace of its own with one foot on one of the bridges."""

    name: str
    bridge: str
    address: IPv4Interface


SOURCE = Neighbour("source", "cloudbr0", IPv4Interface("203.0.113.10/24"))
STORAGE = Neighbour("nfs", "cloudbr2", IPv4Interface("10.12.0.2/24"))
NEIGHBOURS = (SOURCE, STORAGE)
EXPORT_PATH = "/export/secondary"


def _resolved(path: Path) -> Path:
    return path.resolve()


@frozen
class Plan:
    """Everything about one lab that follows from its root and ports; several labs may be up at once."""

    root: Path = field(converter=_resolved)
    build: Path = field(converter=_resolved)
    page_port: int = 8080
    console_port: int = 8443

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def tag(self) -> str:
        return "sv" + hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def host_namespace(self) -> str:
        return f"{self.tag}-host"

    def namespace_of(self, neighbour: Neighbour) -> str:
        return f"{self.tag}-{neighbour.name}"

    @property
    def namespaces(self) -> list[str]:
        return [self.host_namespace, *(self.namespace_of(neighbour) for neighbour in NEIGHBOURS)]

    @property
    def lab(self) -> Path:
        """The lab's own files: logs, the source's pages and keys, the login."""
        return self.root / "lab"

    @property
    def logs(self) -> Path:
        return self.lab / "log"

    @property
    def secondary(self) -> Path:
        """What is exported by NFS, and what the daemon reads on the host's side."""
        return self.root / "secondary"

    @property
    def source_pages(self) -> Path:
        """What the web server serves; tests put files there."""
        return self.lab / "source"

    @property
    def netns_marker(self) -> Path:
        """There while /run/netns is this lab's own doing."""
        return self.lab / "made-run-netns"

    @property
    def hosts_file(self) -> Path:
        return self.lab / "hosts"

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.page_port}"

    @property
    def console_origin(self) -> str:
        return f"https://127.0.0.1:{self.console_port}"

    @property
    def source_url(self) -> str:
        return f"https://{SOURCE_NAME}"

    @property
    def images(self) -> Path:
        return self.build / "images"
