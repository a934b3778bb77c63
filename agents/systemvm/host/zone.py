# SPDX-License-Identifier: Apache-2.0
"""`zones/*.yaml`: a zone's networks, stores and endpoints."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, field

from systemvm.host.config_file import ConfigError, ConfigSection, load
from systemvm.web.forwarded import networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.mount_options import parse_mount_options
from systemvm.wire.role import Role
from systemvm.wire.source_access import SourceProxy, parse_proxy
from systemvm.wire.storage import Store


class TrafficType(enum.Enum):
    """What a network carries; the value is its key in a zone file."""

    CONTROL = "control"
    MANAGEMENT = "management"
    PUBLIC = "public"
    STORAGE = "storage"
    GUEST = "guest"


class AddressRange(ConfigSection, frozen=True):
    """A range of addresses that includes both ends."""

    first: IPv4Address
    last: IPv4Address

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"address range is empty: {self.first}–{self.last}")

    def __str__(self) -> str:
        return f"{self.first}–{self.last}"


def address6_in(network: IPv6Network, address: IPv4Address) -> IPv6Interface:
    """Return the IPv6 address that goes with an IPv4 address, which is its last 32 bits."""
    return IPv6Interface((int(network.network_address) + int(address), network.prefixlen))


class NetworkConfig(ConfigSection, frozen=True):
    """One network of a zone: a bridge of the host, and the addresses on it."""

    bridge: str
    cidr: IPv4Network
    #: The host's address: the daemon listens on it on `control`, VNC servers of VMs on `management`.
    host_address: IPv4Address | None = None
    gateway: IPv4Address | None = None  # default: the host's address
    pool: AddressRange | None = None  # for system VMs; on the guest network for users' VMs, by DHCP
    uplink: str | None = None  # an interface that becomes a port of the bridge
    #: IPv6 in addition: each address of the pool has one here, with the IPv4 address as the last 32 bits.
    cidr6: IPv6Network | None = None
    gateway6: IPv6Address | None = None

    def __post_init__(self) -> None:
        if (
            len(self.bridge) > 15
            or not self.bridge
            or "/" in self.bridge
            or self.bridge.split() != [self.bridge]
        ):
            raise ValueError(
                f"{self.bridge!r} is not a bridge name: use at most 15 characters without blank or slash"
            )
        inside = [self.host_address, self.gateway]
        if self.pool is not None:
            inside += [self.pool.first, self.pool.last]
        for address in inside:
            if address is not None and address not in self.cidr:
                raise ValueError(f"{address} of bridge {self.bridge} is outside of its network {self.cidr}")
        if self.cidr6 is not None and self.cidr6.prefixlen > 96:
            raise ValueError(f"{self.cidr6} of bridge {self.bridge} is too small: the longest prefix is /96")
        if self.gateway6 is not None and not self._reaches(self.gateway6):
            raise ValueError(
                f"{self.gateway6} of bridge {self.bridge} is outside of its network {self.cidr6}"
            )
        if self.pool and self.host_address and self.pool.first <= self.host_address <= self.pool.last:
            raise ValueError(f"pool {self.pool} of bridge {self.bridge} contains the host's own address")

    @property
    def router(self) -> IPv4Address | None:
        return self.gateway or self.host_address

    def _reaches(self, address: IPv6Address) -> bool:
        return self.cidr6 is not None and (address.is_link_local or address in self.cidr6)

    def address6(self, address: IPv4Address) -> IPv6Interface | None:
        """Return the IPv6 address for an address of the pool; None when the network has no IPv6."""
        return None if self.cidr6 is None else address6_in(self.cidr6, address)

    @property
    def netmask(self) -> IPv4Address:
        return self.cidr.netmask


class NetworksConfig(ConfigSection, frozen=True):
    """A zone's networks by traffic type.

    Without `storage`, stores are reached over `management`; without `public`, consoles and sources are.
    """

    control: NetworkConfig
    management: NetworkConfig
    public: NetworkConfig | None = None
    storage: NetworkConfig | None = None
    guest: NetworkConfig | None = None

    @property
    def outside(self) -> NetworkConfig:
        """The network with system VMs' default route, which browsers and sources are reached through."""
        return self.public or self.management

    def by_type(self) -> dict[TrafficType, NetworkConfig]:
        """Return the configured networks in the order of a system VM's NICs."""
        found = {kind: getattr(self, kind.value) for kind in TrafficType}
        return {kind: network for kind, network in found.items() if network is not None}

    def of_system_vm(self, role: Role) -> list[tuple[TrafficType, NetworkConfig]]:
        """Return the networks of a system VM's eth0, eth1, … (reference 1.2)."""
        wanted = [TrafficType.CONTROL, TrafficType.MANAGEMENT, TrafficType.PUBLIC]
        if role is Role.SSVM:
            wanted.append(TrafficType.STORAGE)
        present = self.by_type()
        return [(kind, present[kind]) for kind in wanted if kind in present]


class ImageStoreConfig(ConfigSection, frozen=True):
    """Secondary storage: an NFS export, and the directory where this host reads the same files."""

    name: str
    url: str  # nfs://10.12.0.2/export/secondary
    host_path: Path | None = None
    nfs_version: str = "4.2"
    mount_options: str = ""  # of wire/mount_options.py, with commas
    read_only: bool | None = None  # none: updateImageStore decides

    def __post_init__(self) -> None:
        parse_mount_options(self.mount_options)
        parts = urlsplit(self.url)
        if parts.scheme != "nfs" or not parts.hostname or not parts.path.strip("/"):
            raise ValueError(f"URL of image store {self.name} must be nfs://ADDRESS/PATH: {self.url!r}")
        IPv4Address(parts.hostname)  # raises for a name: mounting must not depend on DNS

    @property
    def store(self) -> Store:
        """The store as it is sent to agents."""
        parts = urlsplit(self.url)
        return Store(
            server=parts.hostname or "",
            path=parts.path.rstrip("/"),
            nfs_version=self.nfs_version,
            mount_options=self.mount_options,
            read_only=bool(self.read_only),
        )


_Ratio = Annotated[float, Meta(gt=0, le=1)]


class SecondaryStorageConfig(ConfigSection, frozen=True):
    """What holds for all image stores of a zone; the names beside are CloudStack's settings."""

    #: On how many stores of the zone each template is: a number, or `all`.
    replicas: Annotated[int, Meta(ge=1, le=1000)] | Literal["all"] = 1
    #: A fuller store gets no new content (secondary.storage.capacity.threshold).
    capacity_threshold: _Ratio = 0.90
    #: A fuller store is reported (zone.secstorage.capacity.notificationthreshold).
    notification_threshold: _Ratio = 0.75
    #: Stores whose usage differs by less are in balance (image.store.imbalance.threshold).
    imbalance_threshold: _Ratio = 0.30
    #: How clients reach the zone's SSVMs for links to images; a star stands for each SSVM's public address,
    #: as in `console.origin`. `http` only behind a proxy that terminates TLS.
    origin: str = "https://*"
    #: The operator's own chain (leaf first) and key, in place of the public CA's.
    certificate_file: Path | None = None
    key_file: Path | None = None
    #: Addresses or networks of the proxies in front; X-Forwarded-For is used only from these.
    trusted_proxies: list[str] = field(default_factory=list)
    #: How many seconds a link to an image is valid (extract.url.expiration.interval).
    extract_url_expiration_interval: Annotated[float, Meta(ge=60, le=30 * 86400)] = 14_400.0
    #: How much each account's templates and ISOs take at most in the zone; administrators' are not limited
    #: (max.account.secondary.storage, which counts all zones).
    max_account_secondary_storage_gib: Annotated[int, Meta(ge=0)] | None = None
    #: How many bytes a second a download receives at most, and all downloads of an SSVM together.
    max_download_bytes_per_s: Annotated[int, Meta(ge=65_536)] | None = None
    max_total_download_bytes_per_s: Annotated[int, Meta(ge=65_536)] | None = None
    #: How many seconds the parameters of an upload are valid: it must begin before that
    #: (upload.operation.timeout, there in minutes).
    upload_operation_timeout: Annotated[float, Meta(ge=60, le=30 * 86400)] = 3600.0
    #: Nobody gets links to images (disable.extraction).
    disable_extraction: bool = False

    def __post_init__(self) -> None:
        _ = self.endpoint  # raises when it is not an origin
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                "secondary_storage.certificate_file and secondary_storage.key_file must both be set"
            )
        networks(self.trusted_proxies)

    @property
    def endpoint(self) -> PublicEndpoint:
        return PublicEndpoint.parse(self.origin)


class ConsoleConfig(ConfigSection, frozen=True):
    """How browsers reach the zone's CPVMs: every URL and every check of a host uses `origin`.

    `https://HOST[:PORT][/PATH]`. A star stands for each CPVM's own public address: `https://*:8443`, or with
    dashes as a name, `https://*.console.example.test` (CloudStack's consoleproxy.url.domain).
    """

    origin: str = "https://127.0.0.1:8443"
    #: The operator's own chain (leaf first) and key, in place of the public CA's.
    certificate_file: Path | None = None
    key_file: Path | None = None
    #: Addresses or networks of the proxies in front; X-Forwarded-For is used only from these.
    trusted_proxies: list[str] = field(default_factory=list)
    #: A browser that reconnects must have the address (IPv6: the /64) that opened the console. Behind a proxy
    #: this needs `trusted_proxies`; browsers that change networks must open the console again.
    bind_address: bool = False

    def __post_init__(self) -> None:
        if self.endpoint.scheme != "https":
            raise ValueError(f"console.origin must be https://HOST[:PORT][/PATH]: {self.origin!r}")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("console.certificate_file and console.key_file must both be set")
        networks(self.trusted_proxies)

    @property
    def endpoint(self) -> PublicEndpoint:
        return PublicEndpoint.parse(self.origin)


class SystemVmConfig(ConfigSection, frozen=True):
    """The size of a system VM."""

    vcpus: int = 1
    memory_mib: int = 512
    enabled: bool = True


class SystemVmsConfig(ConfigSection, frozen=True):
    ssvm: SystemVmConfig = field(default_factory=SystemVmConfig)
    # less than CloudStack's 1024 MB, because it has no Java
    cpvm: SystemVmConfig = field(default_factory=lambda: SystemVmConfig(memory_mib=256))

    def of(self, role: Role) -> SystemVmConfig:
        return self.ssvm if role is Role.SSVM else self.cpvm


class ZoneConfig(ConfigSection, frozen=True):
    """A zone, from one file of `zones/`."""

    name: str
    networks: NetworksConfig
    dns: list[IPv4Address]
    internal_dns: list[IPv4Address] = field(default_factory=list)
    dns6: list[IPv6Address] = field(default_factory=list)
    #: Names or addresses; without them system VMs use their host's time.
    ntp_servers: list[str] = field(default_factory=list)
    image_stores: list[ImageStoreConfig] = field(default_factory=list)
    arch: str = "amd64"
    description: str = ""
    domain: str | None = None  # the public CA signs for names below it
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    source_ca_file: Path | None = None  # trusted in addition to the public roots for downloads
    source_keyring_file: Path | None = None  # OpenPGP keys, armored, that checksum files are signed with
    secstorage_proxy: str | None = None  # http://user:password@host:3128: downloads go through it
    #: Addresses and networks inside of the zone's own networks that images can be downloaded from.
    allowed_internal_sites: list[str] = field(default_factory=list)
    max_template_size_bytes: int = 50 * 1024**3
    secondary_storage: SecondaryStorageConfig = field(default_factory=SecondaryStorageConfig)
    system_vms: SystemVmsConfig = field(default_factory=SystemVmsConfig)

    def __post_init__(self) -> None:
        if self.secstorage_proxy is not None:
            parse_proxy(self.secstorage_proxy)
        for site in self.allowed_internal_sites:
            if not ip_network(site, strict=False).prefixlen:
                raise ValueError(
                    f"{site} in allowed_internal_sites is everything: name addresses or networks"
                )

    @property
    def source_proxy(self) -> SourceProxy | None:
        return None if self.secstorage_proxy is None else parse_proxy(self.secstorage_proxy)

    @property
    def source_keyring(self) -> str | None:
        """The file's content, read at each call."""
        return None if self.source_keyring_file is None else self.source_keyring_file.read_text()

    @property
    def source_ca_pem(self) -> str | None:
        """The file's content, read at each call: the CA can change while the daemon runs."""
        return None if self.source_ca_file is None else self.source_ca_file.read_text()


def load_zones(directory: Path) -> list[ZoneConfig]:
    """Return every zone in the order of the file names.

    Raises: ConfigError when a file is wrong, or two files describe the same zone.
    """
    zones: dict[str, ZoneConfig] = {}
    for path in sorted(directory.glob("*.yaml")):
        zone = load(path, ZoneConfig)
        if zone.name in zones:
            raise ConfigError(f"{path}: zone {zone.name} is also described by another file")
        zones[zone.name] = zone
    return list(zones.values())
