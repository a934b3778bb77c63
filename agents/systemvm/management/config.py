# SPDX-License-Identifier: Apache-2.0
"""`managementd.yaml`: the daemon's configuration. Every key has a default; an empty file is valid."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import attrs
from attrs import frozen
from msgspec import Meta, field

from systemvm.host.bridges import HostNetwork
from systemvm.host.config_file import ConfigError, ConfigSection, load
from systemvm.host.firewall import Address
from systemvm.host.host_file import HostConfig, labelled_networks, load_host
from systemvm.host.layout import Layout
from systemvm.host.zone import ZoneConfig, load_zones
from systemvm.web.forwarded import Network, networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import CONTROL_PORT

#: The network helper opens no other ports.
_UnprivilegedPort = Annotated[int, Meta(ge=1024, le=65_535)]

#: CloudStack's prometheus.exporter.port.
METRICS_PORT = 9595

#: `sun_path` of unix(7) has 108 bytes with its last zero.
MAX_SOCKET_PATH_BYTES = 107


def parse_listener(text: str, default_port: int, key: str = "control.extra_listeners") -> tuple[str, int]:
    """Parse address and port of `127.0.0.1`, `127.0.0.1:8250`, `[::1]` or `[::1]:8250`.

    A wildcard is rejected: `key` must not listen on unintended networks.
    Raises: ValueError when the text is anything else.
    """
    hint = "write ADDRESS or ADDRESS:PORT, an IPv6 address in brackets"
    try:
        parts = urlsplit(f"//{text}")
        address, port = ip_address(parts.hostname or ""), parts.port or default_port
    except ValueError as error:
        raise ValueError(f"{key}: {text!r} cannot be used: {error}; {hint}") from None
    if parts.netloc != text or "@" in text:
        raise ValueError(f"{key}: {text!r} is not an address; {hint}")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{key}: {text!r} is not the address of one host; list each address")
    if not 1024 <= port <= 65_535:
        raise ValueError(f"{key}: {text!r}: the port must be from 1024 to 65535")
    return str(address), port


class ControlConfig(ConfigSection, frozen=True):
    """The listener for agents, and the limit of their silence."""

    address: IPv4Address = field(default_factory=lambda: IPv4Address("169.254.0.1"))
    port: _UnprivilegedPort = CONTROL_PORT
    ping_interval_s: float = 30.0
    missed_pings: float = 2.5  # CloudStack's ping.timeout: intervals of silence until an Alert
    #: More addresses of the same channel, `ADDRESS` or `ADDRESS:PORT` (IPv6 in brackets), for tools that
    #: connect to CloudStack's 127.0.0.1:8250 or to the API's address.
    extra_listeners: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(set(self.listeners)) != len(self.listeners):
            raise ValueError("control.extra_listeners contains a duplicate or the control address itself")

    @property
    def listeners(self) -> list[tuple[str, int]]:
        """Return every address and port, the control network's first."""
        extra = [parse_listener(text, self.port) for text in self.extra_listeners]
        return [(str(self.address), self.port), *extra]


class PageConfig(ConfigSection, frozen=True):
    """The page and `/client/api`: the listener and, separately, the origin that browsers use."""

    #: A Twisted endpoint; `systemd:domain=INET:name=page` is the socket that systemd or the lab passes.
    listen: str = "systemd:domain=INET:name=page"
    #: https: the daemon terminates TLS with the public CA or the files below, unless `tls` is false.
    origin: str = "http://127.0.0.1:8080"
    tls: bool = True  # false when a proxy terminates it
    certificate_file: Path | None = None  # the operator's own chain, leaf first
    key_file: Path | None = None
    #: Addresses or networks of reverse proxies; X-Forwarded-For counts only from these.
    trusted_proxies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.endpoint.is_wildcard:
            raise ValueError("page.origin must not have a wildcard: there is one page")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("page.certificate_file and page.key_file must be set together")
        networks(self.trusted_proxies)

    @property
    def endpoint(self) -> PublicEndpoint:
        return PublicEndpoint.parse(self.origin)

    @property
    def ends_tls(self) -> bool:
        return self.tls and self.endpoint.scheme == "https"


class HypervisorConfig(ConfigSection, frozen=True):
    driver: Literal["qemu"] = "qemu"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    vnc_first_port: _UnprivilegedPort = 5900
    vnc_last_port: _UnprivilegedPort = 6100
    vnc_tls: bool = True  # false: new VMs' screens cross the management network in clear text


class SupervisionConfig(ConfigSection, frozen=True):
    """The intervals of the reconciler of system VMs, and of listings of registered hosts."""

    scan_interval_s: float = 30.0
    agent_deadline_s: float = 120.0  # from start to agent Up; multiplied by how slow guests are here
    retry_first_s: float = 5.0  # after a failed start, doubled each time
    retry_max_s: float = 300.0
    host_refresh_s: Annotated[float, Meta(ge=1)] = 60.0  # between two listings of a registered host's VMs


class ExpungeConfig(ConfigSection, frozen=True):
    """CloudStack's expunge.delay, expunge.interval and allow.user.…"""

    delay: Annotated[float, Meta(ge=0)] = 86_400.0  # seconds a destroyed VM can be recovered
    interval: Annotated[float, Meta(ge=1)] = 86_400.0  # seconds between two passes over machines that are due
    allow_user_expunge_recover_vm: bool = False  # false: only administrators recover and expunge
    allow_user_view_destroyed_vm: bool = False  # false: users do not see what they have destroyed


class MetricsConfig(ConfigSection, frozen=True):
    """Where Prometheus reads the metrics of the daemon and of its agents."""

    #: `ADDRESS` or `ADDRESS:PORT` (IPv6 in brackets), of the management network or loopback; empty: nowhere.
    listen: str = ""

    def __post_init__(self) -> None:
        self.endpoint  # noqa: B018  (checks the text)

    @property
    def endpoint(self) -> tuple[str, int] | None:
        return parse_listener(self.listen, METRICS_PORT, "metrics.listen") if self.listen else None


class ManagementConfig(ConfigSection, frozen=True):
    """The daemon's configuration."""

    host_name: str = field(default_factory=socket.gethostname)
    control: ControlConfig = field(default_factory=ControlConfig)
    page: PageConfig = field(default_factory=PageConfig)
    hypervisor: HypervisorConfig = field(default_factory=HypervisorConfig)
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)
    operators_group: str = "systemvm"  # can use the UNIX socket, as root can
    image_source: Path = Path("/usr/lib/systemvm/images")  # where built images are imported from
    job_expiry_minutes: int = 1440
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    expunge: ExpungeConfig = field(default_factory=ExpungeConfig)


@frozen
class Configuration:
    """All files that were read at start, and the zones as they are now."""

    layout: Layout
    management: ManagementConfig
    zones: list[ZoneConfig]  # of the files
    #: This host's networks by label; `host_bridges.py` adds which cannot be used.
    labels: dict[str, HostNetwork] = attrs.field(
        default=attrs.Factory(lambda self: labelled_networks(self.zones, HostConfig()), takes_self=True)
    )
    #: The zones by name as they are now; `zone_model/catalog.py` reads them from the rows.
    current: dict[str, ZoneConfig] = attrs.field(init=False)
    #: Every range of the zones' public and guest networks, by the zone's name.
    address_ranges: dict[str, list[tuple[Address, Address]]] = attrs.field(init=False, factory=dict)
    #: The networks of each zone that system VMs are reached on from outside: public, else management.
    outside_networks: dict[str, list[Network]] = attrs.field(init=False, factory=dict)

    #: The management networks of each zone's pods.
    management_networks: dict[str, list[IPv4Network]] = attrs.field(init=False, factory=dict)

    @current.default
    def _of_files(self) -> dict[str, ZoneConfig]:
        return {zone.name: zone for zone in self.zones}

    def zone(self, name: str) -> ZoneConfig:
        """Return the configuration of a zone.

        Raises: LookupError when there is none.
        """
        found = self.current.get(name)
        if found is None:
            raise LookupError(f"there is no zone {name}")
        return found


def read(layout: Layout) -> Configuration:
    """Read all files below a root.

    Raises: ConfigError with file and key when a value is wrong.
    """
    path = layout.config_file
    management = load(path, ManagementConfig) if path.exists() else ManagementConfig()
    zones = load_zones(layout.zones)
    addresses = {zone.networks.control.host_address for zone in zones}
    if zones and addresses != {management.control.address}:
        raise ConfigError(
            f"{layout.zones}: networks.control.host_address must be {management.control.address}, "
            f"as control.address of {path}: agents connect to it"
        )
    return Configuration(layout, management, zones, labelled_networks(zones, load_host(layout.etc)))


def check_socket_paths(layout: Layout) -> None:
    """Refuse a root below which a UNIX socket cannot be bound (unix(7)).

    Raises: ConfigError with the length that a root may have.
    """
    sockets = (layout.socket, layout.network_socket, layout.launcher_socket)
    longest_bytes = max(len(os.fsencode(path)) for path in sockets)
    if longest_bytes > MAX_SOCKET_PATH_BYTES:
        root_bytes = len(os.fsencode(layout.root))
        raise ConfigError(
            f"root is too long: {layout.root} has {root_bytes} bytes, the paths of UNIX sockets below it"
            f" would have {longest_bytes}, the maximum is {MAX_SOCKET_PATH_BYTES}",
            f"give a root of at most {root_bytes - (longest_bytes - MAX_SOCKET_PATH_BYTES)} bytes",
        )
