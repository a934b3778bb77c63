# SPDX-License-Identifier: Apache-2.0
"""What each hypervisor can do here, as data: listHypervisorCapabilities shows it, and these checks use it.

`max_hosts` is enforced by addHost, `storage` by createStoragePool, and what a host is used for by its kind:
only hosts of KVM are driven, so only they run system VMs and deployed machines.
"""

from __future__ import annotations

import uuid

from attrs import frozen

_NAMESPACE = uuid.UUID("8f3c2a5e-7e8b-4d59-8a4e-5b0a0f5c7d31")


@frozen
class HypervisorProfile:
    """One row of the table."""

    name: str  # as CloudStack names it
    versions: str
    connects_to: str  # what the daemon reaches
    is_driven: bool  # runs system VMs and deployed machines; others only have consoles
    system_vm_control: str  # how system VMs are reached; empty: they do not run there
    networking: str  # that a label names; empty: the cloud changes none there
    storage: tuple[str, ...]  # kinds of primary storage; none: the cloud makes no disks there
    max_hosts: int | None  # in a cluster; None: no limit
    console: str  # how a screen is reached
    serial_console: bool
    verified_by: tuple[str, ...]  # what its certificate can be verified with

    @property
    def uuid(self) -> str:
        """The id, which is the same in every installation."""
        return str(uuid.uuid5(_NAMESPACE, self.name))


PROFILES = (
    HypervisorProfile(
        name="KVM",
        versions="QEMU 7.2 and later",
        connects_to="the host itself, by its own management daemon",
        is_driven=True,
        system_vm_control="link-local network",
        networking="bridge of Linux or of Open vSwitch",
        storage=("Filesystem", "SharedMountPoint", "NetworkFilesystem"),
        max_hosts=None,
        console="VNC with VeNCrypt X.509",
        serial_console=True,
        verified_by=("the cloud's own CA",),
    ),
    HypervisorProfile(
        name="XenServer",
        versions="XenServer 7.3 and later, XCP-ng",
        connects_to="the pool's master, by XAPI",
        is_driven=False,
        system_vm_control="",
        networking="",
        storage=(),
        max_hosts=64,
        console="HTTPS CONNECT with a session of XAPI",
        serial_console=False,
        verified_by=("fingerprint", "cacertificate"),
    ),
    HypervisorProfile(
        name="VMware",
        versions="vCenter 7.0 U2 and later",
        connects_to="vCenter, by its REST API",
        is_driven=False,
        system_vm_control="",
        networking="",
        storage=(),
        max_hosts=96,
        console="WebSocket with a ticket of vCenter",
        serial_console=False,
        verified_by=("cacertificate",),
    ),
)


def profile_of(name: str) -> HypervisorProfile:
    """Return the profile of a hypervisor by CloudStack's name.

    Raises: LookupError when there is none.
    """
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise LookupError(f"there is no hypervisor {name}")
