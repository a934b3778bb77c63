# SPDX-License-Identifier: Apache-2.0
"""Config drives: what a guest that cannot ask the metadata service reads from a CD with the label config-2.

The files are those of CloudStack's ConfigDriveBuilder: `cloudstack/` for its guests' scripts, such as
cloud-set-guest-password-configdrive, and `openstack/latest/` for cloud-init's data source ConfigDrive.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import msgspec
from attrs import field, frozen

#: vm.configdrive.label of CloudStack; cloud-init looks for it.
LABEL = "config-2"

_PASSWORD = "cloudstack/password/vm_password.txt"  # noqa: S105
_OPENSTACK = "openstack/latest"
#: OpenStack's names of meta-data, by CloudStack's (NetworkModel.openStackFileMapping).
_OPENSTACK_NAMES = {
    "availability-zone": "availability_zone",
    "local-hostname": "hostname",
    "public-hostname": "name",
    "vm-id": "uuid",
}
_MTU_BYTES = 1500
# Rock Ridge's types and modes: root's, and of a password nobody else's
_DIRECTORY, _FILE, _SECRET_FILE = 0o040555, 0o100444, 0o100400


@frozen
class DriveNic:
    """A NIC as cloud-init configures it: by DHCP, whoever serves it."""

    device: int
    mac: str
    network_id: str


@frozen
class ConfigDrive:
    """What a guest reads."""

    items: Mapping[str, str]  # CloudStack's names of meta-data and their values
    nics: Sequence[DriveNic]
    user_data: bytes | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def files(self) -> dict[str, bytes]:
        """The files by their paths; one without content does not exist, as in CloudStack."""
        found = {f"cloudstack/metadata/{name}.txt": value.encode() for name, value in self.items.items()}
        found[f"{_OPENSTACK}/meta_data.json"] = _json(
            {_OPENSTACK_NAMES[name]: value for name, value in self.items.items() if name in _OPENSTACK_NAMES}
        )
        found[f"{_OPENSTACK}/network_data.json"] = _json(_network_data(self.nics))
        found[f"{_OPENSTACK}/vendor_data.json"] = _json({})
        if self.user_data is not None:
            found["cloudstack/userdata/user_data.txt"] = self.user_data
            found[f"{_OPENSTACK}/user_data"] = self.user_data
        if self.password is not None:
            found[_PASSWORD] = self.password.encode()
        return {path: content for path, content in sorted(found.items()) if content}

    def image(self) -> bytes:
        """Return an ISO 9660 image with Joliet and Rock Ridge, as genisoimage makes it for CloudStack."""
        import pycdlib  # costs a tenth of a second, and many daemons make no config drive

        iso = pycdlib.PyCdlib()
        # level 4: names as they are, and not in capitals
        iso.new(interchange_level=4, joliet=3, rock_ridge="1.09", sys_ident="LINUX", vol_ident=LABEL)
        files = self.files
        parents = {parent for path in files for parent in PurePosixPath(path).parents if parent.name}
        for directory in sorted(parents):
            place = f"/{directory}"
            iso.add_directory(place, rr_name=directory.name, joliet_path=place, file_mode=_DIRECTORY)
        for path, content in files.items():
            place, name = f"/{path}", PurePosixPath(path).name
            mode = _SECRET_FILE if path == _PASSWORD else _FILE
            iso.add_fp(
                io.BytesIO(content), len(content), place, rr_name=name, joliet_path=place, file_mode=mode
            )
        written = io.BytesIO()
        iso.write_fp(written)
        iso.close()
        return written.getvalue()


def _network_data(nics: Sequence[DriveNic]) -> dict[str, object]:
    """Return OpenStack's network_data.json, without which cloud-init would configure the first NIC only.

    CloudStack leaves it empty on an L2 network, and cloud-init configures no NIC then.
    """
    return {
        "links": [
            {"id": f"eth{nic.device}", "type": "phy", "ethernet_mac_address": nic.mac, "mtu": _MTU_BYTES}
            for nic in nics
        ],
        "networks": [
            {
                "id": f"eth{nic.device}",
                "link": f"eth{nic.device}",
                "type": "ipv4_dhcp",
                "network_id": nic.network_id,
            }
            for nic in nics
        ],
        "services": [],
    }


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
