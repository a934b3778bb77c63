# SPDX-License-Identifier: Apache-2.0
"""`zones/*.yaml`: a zone's networks, stores and endpoints."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import field

from systemvm.host.config_file import ConfigError, ConfigSection, load
from systemvm.web.forwarded import networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import Role
from systemvm.wire.storage import Store


class TrafficType(enum.Enum):
    """What a network carries; the value is its key in a zone file."""

    CONTROL = "control"
    MANAGEMENT = "management"
    PUBLIC = "public"
    STORAGE = "storage"
    GUEST = "guest"


class AddressRange(ConfigSection, frozen=True):
    """Both ends are part of it."""

    first: IPv4Address
    last: IPv4Address

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"the range {self.first}–{self.last} is empty")

    def __str__(self) -> str:
        return f"{self.first}–{self.last}"


class NetworkConfig(ConfigSection, frozen=True):
    """One network of a zone: a bridge of the host, and who has which address on it."""

    bridge: str
    cidr: IPv4Network
    #: The host's own: on `control` the daemon listens there, on `management` are the screens of its VMs.
    host_address: IPv4Address | None = None
    gateway: IPv4Address | None = None  # none: the host's address
    pool: AddressRange | None = None  # what system VMs get; none where the daemon gives no addresses (guest)
    uplink: str | None = None  # an interface to enslave to the bridge
    #: IPv6 beside it: each address of the pool has its like here, with the IPv4 address as its last 32 bits.
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
                f"{self.bridge!r} is no name for a bridge: at most 15 characters, no blank, no slash"
            )
        inside = [self.host_address, self.gateway]
        if self.pool is not None:
            inside += [self.pool.first, self.pool.last]
        for address in inside:
            if address is not None and address not in self.cidr:
                raise ValueError(f"{address} of bridge {self.bridge} is outside of its network {self.cidr}")
        if self.cidr6 is not None and self.cidr6.prefixlen > 96:
            raise ValueError(
                f"{self.cidr6} of bridge {self.bridge} has no 32 bits for IPv4 addresses: /96 at most"
            )
        if self.gateway6 is not None and not self._reaches(self.gateway6):
            raise ValueError(
                f"{self.gateway6} of bridge {self.bridge} is outside of its network {self.cidr6}"
            )
        if self.pool and self.host_address and self.pool.first <= self.host_address <= self.pool.last:
            raise ValueError(f"the pool {self.pool} of bridge {self.bridge} holds the host's own address")

    @property
    def router(self) -> IPv4Address | None:
        return self.gateway or self.host_address

    def _reaches(self, address: IPv6Address) -> bool:
        return self.cidr6 is not None and (address.is_link_local or address in self.cidr6)

    def address6(self, address: IPv4Address) -> IPv6Interface | None:
        """The IPv6 address that goes with an address of the pool; None where the network has no IPv6."""
        if self.cidr6 is None:
            return None
        own = IPv6Address(int(self.cidr6.network_address) + int(address))
        return IPv6Interface((own, self.cidr6.prefixlen))

    @property
    def netmask(self) -> IPv4Address:
        return self.cidr.netmask


class NetworksConfig(ConfigSection, frozen=True):
    """A zone's networks by traffic type; without `storage`, stores are reached over `management`."""

    control: NetworkConfig
    management: NetworkConfig
    public: NetworkConfig
    storage: NetworkConfig | None = None
    guest: NetworkConfig | None = None

    def by_type(self) -> dict[TrafficType, NetworkConfig]:
        """Those that there are, in the order of a system VM's NICs."""
        found = {kind: getattr(self, kind.value) for kind in TrafficType}
        return {kind: network for kind, network in found.items() if network is not None}

    def of_system_vm(self, role: Role) -> list[tuple[TrafficType, NetworkConfig]]:
        """What eth0, eth1, … of a system VM are on (reference 1.2)."""
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
    read_only: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "nfs" or not parts.hostname or not parts.path.strip("/"):
            raise ValueError(
                f"the image store {self.name} needs a URL such as nfs://10.12.0.2/export/secondary"
            )
        IPv4Address(parts.hostname)  # an agent mounts by address: a name would make storage wait for DNS

    @property
    def store(self) -> Store:
        """As agents are told of it."""
        parts = urlsplit(self.url)
        return Store(server=parts.hostname or "", path=parts.path.rstrip("/"), nfs_version=self.nfs_version)


class ConsoleConfig(ConfigSection, frozen=True):
    """How browsers reach the zone's CPVMs: every URL and every check of a name comes from `origin`.

    `https://HOST[:PORT][/PATH]`. A star stands for each CPVM's own public address: `https://*:8443`, or with
    dashes as a name, `https://*.console.example.test` (CloudStack's consoleproxy.url.domain).
    """

    origin: str = "https://127.0.0.1:8443"
    #: The operator's own chain (leaf first) and key, in place of the public CA's.
    certificate_file: Path | None = None
    key_file: Path | None = None
    #: Addresses or networks of the proxies in front; from these alone X-Forwarded-For counts.
    trusted_proxies: list[str] = field(default_factory=list)
    #: A browser that comes back to a console must have the address (IPv6: the /64) that opened it. Behind
    #: a proxy this needs `trusted_proxies`; browsers that change networks must open the console again.
    bind_address: bool = False

    def __post_init__(self) -> None:
        if self.endpoint.scheme != "https":
            raise ValueError(f"console.origin must be https://HOST[:PORT][/PATH], not {self.origin!r}")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("console.certificate_file and console.key_file come together")
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
    # Less than CloudStack's 1024 MB: it needs no Java.
    cpvm: SystemVmConfig = field(default_factory=lambda: SystemVmConfig(memory_mib=256))

    def of(self, role: Role) -> SystemVmConfig:
        return self.ssvm if role is Role.SSVM else self.cpvm


class ZoneConfig(ConfigSection, frozen=True):
    """One file of `zones/`."""

    name: str
    networks: NetworksConfig
    dns: list[IPv4Address]
    internal_dns: list[IPv4Address] = field(default_factory=list)
    dns6: list[IPv6Address] = field(default_factory=list)
    #: Names or addresses; without them system VMs keep their hosts' time.
    ntp_servers: list[str] = field(default_factory=list)
    image_stores: list[ImageStoreConfig] = field(default_factory=list)
    arch: str = "amd64"
    description: str = ""
    domain: str | None = None  # the public CA signs for names beneath it
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    source_ca_file: Path | None = None  # trusted besides the public roots when templates are downloaded
    max_template_size_bytes: int = 50 * 1024**3
    system_vms: SystemVmsConfig = field(default_factory=SystemVmsConfig)

    @property
    def source_ca_pem(self) -> str | None:
        """Read anew each time: a source may get a new CA while the daemon runs."""
        return None if self.source_ca_file is None else self.source_ca_file.read_text()


def load_zones(directory: Path) -> list[ZoneConfig]:
    """Every zone, by file name; ConfigError for a file that is wrong or a name that comes twice."""
    zones: dict[str, ZoneConfig] = {}
    for path in sorted(directory.glob("*.yaml")):
        zone = load(path, ZoneConfig)
        if zone.name in zones:
            raise ConfigError(f"{path}: the zone {zone.name} is described by another file too")
        zones[zone.name] = zone
    return list(zones.values())
