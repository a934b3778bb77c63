# SPDX-License-Identifier: Apache-2.0
"""Exports the images for other hypervisors: VHD for XenServer, OVA for VMware and VirtualBox.

OVF 1.1 (DMTF DSP0243) and its packing: one ustar archive of the descriptor, the sums, and the disk
as a stream-optimized VMDK, in this order.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from xml.etree import ElementTree as Xml

import attrs
from appliance import Appliance
from bake import IMAGES, write_sums
from stamps import sha256_of

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
DEBIAN_64 = "96"  # CIM_OperatingSystem.OsType

#: A system VM's NICs, in the guest's order; the last is an SSVM's.
NETWORKS = {
    "ssvm": ["control", "management", "public", "storage"],
    "cpvm": ["control", "management", "public"],
}


@attrs.frozen
class Item:
    """One device of the virtual hardware; `kind` is CIM's ResourceType."""

    kind: int
    name: str
    subtype: str | None = None
    parent: int | None = None
    address: int | None = None
    on_parent: int | None = None
    connection: str | None = None
    host_resource: str | None = None
    quantity: int | None = None
    units: str | None = None

    def fields(self, number: int) -> dict[str, str]:
        """The elements by the specification's names, in the required alphabetical order."""
        values = {
            "Address": self.address, "AddressOnParent": self.on_parent, "AllocationUnits": self.units,
            "AutomaticAllocation": None if self.connection is None else "true", "Connection": self.connection,
            "ElementName": self.name, "HostResource": self.host_resource, "InstanceID": number,
            "Parent": self.parent, "ResourceSubType": self.subtype, "ResourceType": self.kind,
            "VirtualQuantity": self.quantity,
        }  # fmt: skip
        return {name: str(value) for name, value in values.items() if value is not None}


def export(appliance: Appliance) -> list[Path]:
    """Write both files to the qcow2's directory, each atomically."""
    image = IMAGES / f"{appliance.name}.qcow2"
    vhd, ova = image.with_suffix(".vhd"), image.with_suffix(".ova")
    # without force_size the size is rounded to a CHS geometry
    _convert(image, IMAGES / f".{vhd.name}", "vpc", "subformat=dynamic,force_size=on")
    (IMAGES / f".{vhd.name}").replace(vhd)
    _write_ova(appliance, image, ova)
    for path in (vhd, ova):
        path.chmod(0o644)
    write_sums()
    return [vhd, ova]


def _convert(image: Path, output: Path, form: str, options: str) -> None:
    subprocess.run(["qemu-img", "convert", "-O", form, "-o", options, image, output], check=True)


def _write_ova(appliance: Appliance, image: Path, ova: Path) -> None:
    name = appliance.name
    parts = {kind: IMAGES / f".{name}.{kind}" for kind in ("ovf", "mf", "vmdk")}
    try:
        _convert(image, parts["vmdk"], "vmdk", "subformat=streamOptimized,adapter_type=lsilogic")
        shown = subprocess.run(
            ["qemu-img", "info", "--output=json", image], capture_output=True, check=True
        )  # fmt: skip
        capacity_bytes = int(json.loads(shown.stdout)["virtual-size"])
        parts["ovf"].write_bytes(descriptor(appliance, parts["vmdk"].stat().st_size, capacity_bytes))
        sums = [f"SHA256({name}.{kind})= {sha256_of(parts[kind])}\n" for kind in ("ovf", "vmdk")]
        parts["mf"].write_text("".join(sums))
        temporary = IMAGES / f".{ova.name}"
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for kind, path in parts.items():
                member = tarfile.TarInfo(f"{name}.{kind}")
                member.size, member.mode, member.mtime = (
                    path.stat().st_size,
                    0o644,
                    appliance.source_date_epoch,
                )
                with path.open("rb") as stream:
                    archive.addfile(member, stream)
        temporary.replace(ova)
    finally:
        for path in parts.values():
            path.unlink(missing_ok=True)


def hardware(appliance: Appliance) -> list[Item]:
    """Return the devices; the InstanceID is the position in the list plus one."""
    memory_mib = int(appliance.budget["memory_mib"])
    items = [
        Item(3, "1 virtual CPU", quantity=1, units="hertz * 10^6"),
        Item(4, f"{memory_mib} MB of memory", quantity=memory_mib, units="byte * 2^20"),
        Item(20, "SATA controller", subtype="AHCI", address=0),
        Item(17, "Disk", parent=3, on_parent=0, host_resource="ovf:/disk/vmdisk1"),
    ]
    for place, network in enumerate(NETWORKS[appliance.role]):
        items.append(Item(10, f"eth{place}", subtype="VmxNet3", connection=network, on_parent=7 + place))
    return items


def descriptor(appliance: Appliance, file_bytes: int, capacity_bytes: int) -> bytes:
    """Return the OVF envelope of one VM."""
    for prefix, address in (("ovf", OVF), ("rasd", RASD), ("vssd", VSSD)):
        Xml.register_namespace(prefix, address)
    name = appliance.name
    envelope = Xml.Element(f"{{{OVF}}}Envelope")
    references = _child(envelope, "References")
    _child(references, "File", href=f"{name}.vmdk", id="file1", size=str(file_bytes))
    disks = _child(envelope, "DiskSection")
    _child(disks, "Info", "Virtual disks")
    disk = {"capacity": str(capacity_bytes), "diskId": "vmdisk1", "fileRef": "file1"}
    _child(disks, "Disk", **disk, format=STREAM_OPTIMIZED)
    networks = _child(envelope, "NetworkSection")
    _child(networks, "Info", "Networks, in the order of the guest's NICs")
    for network in NETWORKS[appliance.role]:
        _child(_child(networks, "Network", name=network), "Description", f"The {network} network")

    system = _child(envelope, "VirtualSystem", id=name)
    _child(system, "Info", "A system VM")
    _child(system, "Name", f"systemvm-{name}-{appliance.version}")
    operating_system = _child(system, "OperatingSystemSection", id=DEBIAN_64)
    _child(operating_system, "Info", "The guest's operating system")
    _child(operating_system, "Description", "Debian GNU/Linux, 64 bits")
    section = _child(system, "VirtualHardwareSection")
    _child(section, "Info", "Virtual hardware")
    about = _child(section, "System")
    facts = {"ElementName": "Virtual hardware family", "InstanceID": "0", "VirtualSystemType": "vmx-13"}
    for key, value in facts.items():
        Xml.SubElement(about, f"{{{VSSD}}}{key}").text = value
    for number, item in enumerate(hardware(appliance), 1):
        element = _child(section, "Item")
        for key, value in item.fields(number).items():
            Xml.SubElement(element, f"{{{RASD}}}{key}").text = value
    Xml.indent(envelope)
    found: bytes = Xml.tostring(envelope, encoding="utf-8", xml_declaration=True) + b"\n"
    return found


def _child(parent: Xml.Element, tag: str, text: str | None = None, **attributes: str) -> Xml.Element:
    child = Xml.SubElement(
        parent, f"{{{OVF}}}{tag}", {f"{{{OVF}}}{key}": value for key, value in attributes.items()}
    )
    child.text = text
    return child
