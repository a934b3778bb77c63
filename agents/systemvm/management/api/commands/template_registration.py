# SPDX-License-Identifier: Apache-2.0
"""The parameters of a new template or ISO, for commands that register one by URL and for uploads."""

from __future__ import annotations

from systemvm.management import os_types
from systemvm.management.api.command import ApiCall
from systemvm.management.api.commands.template_list import TemplateCategory
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.ownership import OWNER
from systemvm.management.api.parameters import EVERY_ZONE, ParameterType, only, optional, required
from systemvm.management.state import zones
from systemvm.management.state.database import Connection
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.management.templates.sources import RegisteredSource
from systemvm.wire.source_access import SourceCredentials, require_login
from systemvm.wire.source_url import SourceUrlError
from systemvm.wire.storage import ImageFormat

STRING, UUID, BOOLEAN, INTEGER, *_ = ParameterType  # in the order of their declaration

_NAME = required("name", STRING, "the name")
_NEW = (
    *OWNER,
    optional("displaytext", STRING, "description for people; the name by default"),
    optional("ispublic", BOOLEAN, "let other accounts use it"),
    optional("isfeatured", BOOLEAN, "feature it; for administrators only"),
    optional("isextractable", BOOLEAN, "permit its download from the cloud"),
    optional("ostypeid", UUID, "the guest's operating system; see listOsTypes"),
)
_NEW_TEMPLATE = (
    required("format", STRING, "QCOW2, RAW, VHD, VHDX, VMDK, OVA or TAR"),
    required("hypervisor", STRING, "KVM", choices=("KVM",)),
    optional("requireshvm", BOOLEAN, "it needs hardware virtualization"),
    optional("arch", STRING, "processor architecture; the zone's by default"),
    optional("passwordenabled", BOOLEAN, "guests take passwords from the cloud"),
    only("isdynamicallyscalable", BOOLEAN, "change the size of running VMs", False),
    only("bits", INTEGER, "32 or 64", 64),
    only("sshkeyenabled", BOOLEAN, "guests take SSH keys from the cloud", False),
    only("isrouting", BOOLEAN, "use it for virtual routers", False),
    only("deployasis", BOOLEAN, "take the settings of VMs from an OVA", False),
    only("forcks", BOOLEAN, "use it for Kubernetes clusters", False),
    only("templatetype", STRING, "type of the template", "USER"),
)
_BOOTABLE = optional("bootable", BOOLEAN, "VMs can boot from it")
_BY_URL = (
    _NAME,
    required("url", STRING, "where an SSVM downloads it from: http, https, or oci; a Metalink names mirrors"),
    *_NEW,
    optional(
        "checksum",
        STRING,
        "digest of the file at url as {ALG}hex (without {ALG} its length decides), or URL of a checksum file",
    ),
    optional("checksumsignature", STRING, "URL of an OpenPGP signature of the checksum file"),
    optional("sourceusername", STRING, "user name for the server of url, by HTTP Basic authentication"),
    optional("sourcepassword", STRING, "password for the server of url; it is stored encrypted"),
    only("directdownload", BOOLEAN, "hosts download it themselves", False),
)
_EVERY_ZONE_TOO = "UUID of a zone; administrators can send -1 for all zones"
REGISTER_TEMPLATE = (
    *_BY_URL,
    optional("zoneid", UUID, f"{_EVERY_ZONE_TOO}; the only zone by default", literals=(EVERY_ZONE,)),
    *_NEW_TEMPLATE,
)
REGISTER_ISO = (
    *_BY_URL,
    required("zoneid", UUID, _EVERY_ZONE_TOO, literals=(EVERY_ZONE,)),
    optional("arch", STRING, "processor architecture; the zone's by default"),
    optional("passwordenabled", BOOLEAN, "guests take passwords from the cloud"),
    only("isdynamicallyscalable", BOOLEAN, "change the size of running VMs", False),
    _BOOTABLE,
)
_UPLOADED = (
    _NAME,
    required("zoneid", UUID, "UUID of the zone whose SSVM receives it"),
    *_NEW,
    optional("checksum", STRING, "digest of the file as {ALG}hex (without {ALG} its length decides)"),
)
UPLOAD_TEMPLATE = (*_UPLOADED, *_NEW_TEMPLATE)
UPLOAD_ISO = (*_UPLOADED, required("format", STRING, "ISO", choices=("ISO",)), _BOOTABLE)


def named_or_only_zone(connection: Connection, uuid: str | None) -> zones.Zone:
    """Return the zone with this UUID, or the only zone.

    Raises: ApiError 431 when no zone is named and there are several, NotFoundError for an unknown one.
    """
    if uuid is not None:
        return zones.zone_by_uuid(connection, uuid)
    present = zones.list_zones(connection)
    if len(present) != 1:
        raise parameter_error(
            "zoneid",
            f"parameter zoneid is missing: there are {len(present)} zones",
            "send zoneid; see listZones",
        )
    return present[0]


def registration_of(call: ApiCall, kind: TemplateCategory, zone_arch: str) -> Registration:
    """Return what a call registers; without a URL its user uploads it.

    Raises: ApiError 431 for a value that is invalid or that the caller must not send.
    """
    try:
        return _registration(call, kind, zone_arch)
    except RegistrationError as error:
        raise parameter_error(
            error.parameter, f"Invalid value for parameter {error.parameter}: {error.message}"
        ) from None


def _registration(call: ApiCall, kind: TemplateCategory, zone_arch: str) -> Registration:
    arguments = call.arguments
    featured = arguments.flag("isfeatured")
    if featured and not call.principal.is_admin:
        raise parameter_error(
            "isfeatured", "Parameter isfeatured=true can be passed by Admin only", "omit isfeatured"
        )
    os_type = arguments.text("ostypeid")
    if os_type is not None and os_types.find(os_type) is None:
        raise parameter_error("ostypeid", f"there is no OS type with the id {os_type}", "call listOsTypes")
    return Registration.of(
        format_name=ImageFormat.ISO.value if kind.is_iso else _template_format(arguments["format"]),
        checksum_text=arguments.text("checksum"),
        name=arguments["name"],
        url=arguments.get("url"),
        display_text=arguments.get("displaytext", ""),
        hypervisor=arguments.get("hypervisor", "KVM"),
        os_type=os_type or os_types.DEFAULT.id,
        arch_name=arguments.get("arch", zone_arch),
        bootable=arguments.flag("bootable", True),
        featured=featured,
        public=arguments.flag("ispublic"),
        extractable=arguments.flag("isextractable"),
        hvm=arguments.flag("requireshvm", True),
        password_enabled=arguments.flag("passwordenabled"),
        source=RegisteredSource(_credentials(call), arguments.text("checksumsignature")),
    )


def _credentials(call: ApiCall) -> SourceCredentials | None:
    """Return the login of the source, which is in no URL: URLs are logged and listed."""
    username, password = call.arguments.text("sourceusername"), call.arguments.text("sourcepassword")
    if username is None:
        if password is not None:
            raise parameter_error(
                "sourceusername", "sourcepassword is given without sourceusername", "send both"
            )
        return None
    login = SourceCredentials(username, password or "")
    try:
        require_login(login)
    except SourceUrlError as error:
        raise parameter_error(
            "sourceusername", f"Invalid value for parameter sourceusername: {error.message}", error.hint
        ) from None
    return login


def _template_format(text: str) -> str:
    if text.upper() == ImageFormat.ISO.value:
        raise RegistrationError("format", "ISO is not a format of templates; call registerIso")
    return text
