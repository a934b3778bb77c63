# SPDX-License-Identifier: Apache-2.0
"""Writes the daemon's configuration files for a lab."""

from __future__ import annotations

from systemvm.host.config_file import to_yaml
from systemvm.host.host_file import FILE_NAME, HostConfig
from systemvm.host.zone import (
    AddressRange,
    ConsoleConfig,
    ImageStoreConfig,
    NetworkConfig,
    NetworksConfig,
    SecondaryStorageConfig,
    SystemVmConfig,
    SystemVmsConfig,
    ZoneConfig,
)
from systemvm.lab.plan import EXPORT_PATH, NETWORKS, SOURCE, STORAGE, ZONE_NAME, LabNetwork, LabPlan
from systemvm.lab.source_ca import SourceCertificates
from systemvm.management.config import HypervisorConfig, ManagementConfig, PageConfig


def write(
    plan: LabPlan,
    certificates: SourceCertificates,
    *,
    accelerator: str = "auto",
    system_vms: bool = True,
    host: HostConfig | None = None,
) -> None:
    """Write `managementd.yaml` and one zone, at every start, because they follow from the plan.

    With `host` it writes `host.yaml` instead of the zone, which is then made by the API.
    """
    layout = plan.layout
    layout.prepare()
    management = ManagementConfig(
        host_name="lab-host",
        page=PageConfig(origin=plan.page_url),
        hypervisor=HypervisorConfig(accelerator=accelerator),  # type: ignore[arg-type]
        image_source=plan.images,
    )
    header = "# Written by systemvm-lab at every start; changes are lost.\n"
    layout.config_file.write_text(header + to_yaml(management))
    if host is not None:
        (layout.etc / FILE_NAME).write_text(header + to_yaml(host))
        return
    (layout.zones / f"{ZONE_NAME}.yaml").write_text(
        header + to_yaml(zone(plan, certificates, system_vms=system_vms))
    )


def zone(plan: LabPlan, certificates: SourceCertificates, *, system_vms: bool = True) -> ZoneConfig:
    networks = {network.traffic_type: _network(network) for network in NETWORKS}
    store = ImageStoreConfig(
        name="secondary",
        url=f"nfs://{STORAGE.address.ip}{EXPORT_PATH}",
        # a development machine's kernel can lack an NFS client; this is the exported directory
        host_path=plan.secondary,
        # by NFS 4.2, Debian 13's kernel gets EIO when it reads files of nfs-ganesha 4.3; by 4.1 it does not
        nfs_version="4.1",
    )
    return ZoneConfig(
        name=ZONE_NAME,
        description="a whole cloud on one machine",
        networks=NetworksConfig(**networks),
        dns=[SOURCE.address.ip],
        image_stores=[store],
        secondary_storage=SecondaryStorageConfig(origin=plan.storage_origin),
        console=ConsoleConfig(origin=plan.console_origin),
        source_ca_file=certificates.ca,
        system_vms=SystemVmsConfig(
            ssvm=SystemVmConfig(memory_mib=512, enabled=system_vms),
            cpvm=SystemVmConfig(memory_mib=256, enabled=system_vms),
        ),
    )


def _network(network: LabNetwork) -> NetworkConfig:
    return NetworkConfig(
        bridge=network.bridge,
        cidr=network.host.network,
        host_address=network.host.ip,
        pool=AddressRange(*network.pool) if network.pool is not None else None,
    )
