# SPDX-License-Identifier: Apache-2.0
"""States, with CloudStack's names (reference 1.14, 2.5, 5.3)."""

from __future__ import annotations

import enum


class InstanceType(enum.Enum):
    """Type of a row of `vm_instances`; system VMs and user VMs share one sequence of numbers."""

    USER = "User"
    CONSOLE_PROXY = "ConsoleProxy"
    SECONDARY_STORAGE = "SecondaryStorageVm"

    @property
    def is_system(self) -> bool:
        return self is not InstanceType.USER


class InstanceState(enum.Enum):
    """State of a VM."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    DESTROYED = "Destroyed"
    EXPUNGING = "Expunging"
    ERROR = "Error"

    @property
    def has_process(self) -> bool:
        """Whether a hypervisor process can exist for it."""
        return self in self.with_process()

    @classmethod
    def with_process(cls) -> tuple[InstanceState, ...]:
        return (cls.STARTING, cls.RUNNING, cls.STOPPING)

    @property
    def is_gone(self) -> bool:
        """Whether its owner destroyed it; a Destroyed VM can be recovered, an Expunging one cannot."""
        return self in self.gone()

    @classmethod
    def gone(cls) -> tuple[InstanceState, ...]:
        return (cls.DESTROYED, cls.EXPUNGING)


class BootType(enum.Enum):
    """The firmware of a VM."""

    BIOS = "BIOS"
    UEFI = "UEFI"


class GuestType(enum.Enum):
    """Who a guest network is for."""

    SHARED = "Shared"  # all accounts
    ISOLATED = "Isolated"  # the one that owns it
    L2 = "L2"  # the one that owns it, without addresses of the cloud


class GuestNetworkState(enum.Enum):
    """State of a guest network."""

    SETUP = "Setup"  # a shared one
    ALLOCATED = "Allocated"  # no VM runs on it, and it has no VLAN
    IMPLEMENTING = "Implementing"
    IMPLEMENTED = "Implemented"


class AgentState(enum.Enum):
    """State of a system VM's agent, as the daemon sees it."""

    CONNECTING = "Connecting"
    UP = "Up"
    ALERT = "Alert"
    DISCONNECTED = "Disconnected"


class JobStatus(enum.IntEnum):
    """CloudStack's `jobstatus`."""

    PENDING = 0
    SUCCEEDED = 1
    FAILED = 2


class SpoolState(enum.Enum):
    """State of a template's copy on primary storage."""

    NOT_COPIED = "NotCopied"
    COPYING = "Copying"
    READY = "Ready"
    ERROR = "Error"


class VolumeState(enum.Enum):
    ALLOCATED = "Allocated"
    CREATING = "Creating"
    READY = "Ready"
    DESTROYED = "Destroyed"
    NOT_UPLOADED = "NotUploaded"  # an SSVM downloads or receives its file
    UPLOADED = "Uploaded"  # its file is on secondary storage; its first VM gets it
    UPLOAD_ERROR = "UploadError"

    @property
    def is_upload(self) -> bool:
        """Whether its content is an image on secondary storage."""
        return self.awaits_file or self is VolumeState.UPLOADED

    @property
    def awaits_file(self) -> bool:
        """Whether its image is not on secondary storage yet."""
        return self in (VolumeState.NOT_UPLOADED, VolumeState.UPLOAD_ERROR)


class Provisioning(enum.Enum):
    """How the disk of a volume takes space: CloudStack's `provisioningtype`."""

    THIN = "thin"  # a linked clone, or an empty file that grows
    SPARSE = "sparse"  # a copy of its own, whose tables are complete and whose data grows
    FAT = "fat"  # a copy of its own, which has all its space from the beginning


class SnapshotState(enum.Enum):
    """State of a snapshot of a volume."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"  # it is being written to primary storage
    BACKING_UP = "BackingUp"  # it is being copied to secondary storage
    BACKED_UP = "BackedUp"
    COPYING = "Copying"  # it is being copied from another zone
    ERROR = "Error"
    HIDDEN = "Hidden"  # deleted, but another one is an increment on it
    DESTROYING = "Destroying"  # deleted, and its file is to be deleted

    @property
    def is_hidden(self) -> bool:
        return self in (SnapshotState.HIDDEN, SnapshotState.DESTROYING)

    @property
    def has_ended(self) -> bool:
        return self not in (
            SnapshotState.ALLOCATED,
            SnapshotState.CREATING,
            SnapshotState.BACKING_UP,
            SnapshotState.COPYING,
        )


class RecordingMode(enum.Enum):
    """Whether consoles are recorded."""

    OFF = "off"
    ON = "on"
    REQUIRED = "required"  # no console without a recording


class RecordingState(enum.Enum):
    """State of a recording of a console."""

    ORDERED = "Ordered"  # nothing has come of it
    RECORDING = "Recording"
    COMPLETE = "Complete"
    INCOMPLETE = "Incomplete"  # its end is missing, or it ended early
    DELETING = "Deleting"


class AccountType(enum.IntEnum):
    """CloudStack's `accounttype`."""

    USER = 0
    ADMIN = 1
    DOMAIN_ADMIN = 2
