# SPDX-License-Identifier: Apache-2.0
"""Where the boot arguments come from, which are required, and the files that store them for other programs.

There are two sources: systemd's credential `systemvm.cmdline` (by SMBIOS or fw_cfg), and CloudStack's
`/var/cache/cloud/cmdline`, which a hypervisor host writes through qemu-guest-agent. The parser is
`systemvm.wire.boot_arguments`.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping

from systemvm.guest import files
from systemvm.guest.boot_argument_error import BootError, boot_argument_error
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.role import Role

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def read(paths: GuestPaths) -> str:
    """Return the text of the boot arguments; the credential takes precedence, because it is of this boot.

    Raises: BootError when there are none, or they cannot be read.
    """
    sources = [
        path
        for path in (paths.credential(boot_arguments.CMDLINE_CREDENTIAL), paths.cmdline)
        if path is not None
    ]
    for source in sources:
        try:
            text = source.read_text("utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise boot_argument_error(f"cannot read boot arguments from {source}: {error}") from error
        if text.strip():
            return text
    raise BootError(
        BootFailure.NO_BOOT_ARGUMENTS,
        f"neither the systemd credential {boot_arguments.CMDLINE_CREDENTIAL!r} nor {paths.cmdline} exists",
        "start QEMU with -smbios type=11,path=FILE; FILE: io.systemd.credential:systemvm.cmdline=KEY=VALUE …",
    )


def role_of(arguments: Mapping[str, str], paths: GuestPaths) -> Role:
    """Return the role in `type=`.

    Raises: BootError when it is missing or unknown, or the image was built for another role.
    """
    if "type" not in arguments:
        raise boot_argument_error(
            "boot argument type= is missing", "set type=secstorage or type=consoleproxy"
        )
    try:
        role = Role.from_boot_type(arguments["type"])
    except ValueError as error:
        raise boot_argument_error(str(error)) from error
    if role is Role.MANAGEMENT:
        raise boot_argument_error(
            "type=management is not a system VM", "set type=secstorage or type=consoleproxy"
        )
    built_for = image_facts(paths).get("role")
    if built_for and built_for != role.value:
        raise boot_argument_error(
            f"wrong image: it is built for role {built_for}, but type={arguments['type']} means {role.value}"
        )
    return role


def name_of(arguments: Mapping[str, str]) -> str:
    """Return the VM's name, which is also its host name and the name in its certificate.

    Raises: BootError when it is missing or not a host name.
    """
    name = arguments.get("name", "")
    if not _HOST_NAME.fullmatch(name):
        raise boot_argument_error(
            f"name={name!r} is not a host name" if name else "boot argument name= is missing"
        )
    return name


def image_facts(paths: GuestPaths) -> dict[str, str]:
    """Return the image's version, sha256, role and build date; empty outside an image.

    Raises: BootError when the file is not a JSON object.
    """
    try:
        facts = json.loads(paths.image_json.read_text())
        return {str(key): str(value) for key, value in facts.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise boot_argument_error(f"{paths.image_json} is not a JSON object: {error}") from error


def store(text: str, arguments: Mapping[str, str], paths: GuestPaths) -> None:
    """Write CloudStack's files: one for root without the identity, one for everyone without any secret.

    The identity is passed to the agent, which erases it when it has its own. The time is dropped, too, so
    that a second run of preinit does not set the clock back.
    """
    dropped = {*boot_arguments.IDENTITY_KEYS, boot_arguments.CLOCK}
    stored = [argument for argument in text.split() if argument.partition("=")[0] not in dropped]
    files.write(paths.cmdline, " ".join(stored) + "\n", 0o600)
    public = {key: value for key, value in arguments.items() if key not in boot_arguments.SECRET_KEYS}
    files.write(paths.cmd_line_json, json.dumps({"type": "cmdline", "cmd_line": public}, indent=1) + "\n")


def read_stored(paths: GuestPaths) -> dict[str, str]:
    """Return the stored boot arguments without secrets, for the agent.

    Raises: BootError when preinit did not write them, or they cannot be read.
    """
    try:
        document = json.loads(paths.cmd_line_json.read_text())
        return {str(key): str(value) for key, value in document["cmd_line"].items()}
    except FileNotFoundError as error:
        raise BootError(
            BootFailure.NO_BOOT_ARGUMENTS,
            f"{paths.cmd_line_json} is missing",
            'run "systemctl status systemvm-preinit"',
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise boot_argument_error(f"cannot read {paths.cmd_line_json}: {error}") from error


def decode_base64(key: str, value: str) -> bytes:
    """Return the bytes of a base64 argument; padding can be missing, because CloudStack's parser cuts it.

    Raises: BootError when the value is not base64.
    """
    try:
        return binascii.a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error as error:
        raise boot_argument_error(f"{key}= is not base64: {error}") from error


def identity_bundle(arguments: Mapping[str, str]) -> bytes | None:
    """Return the identity in CloudStack's keys as one PEM bundle, None when there is none.

    Each value is base64 of PEM with `^` for newline and `~` for blank.

    Raises: BootError when only some of the keys are set.
    """
    keys = boot_arguments.IDENTITY_KEYS
    given = [key for key in keys if arguments.get(key)]
    if not given:
        return None
    if len(given) != len(keys):
        raise boot_argument_error(
            f"incomplete identity: {' and '.join(key for key in keys if key not in given)} missing",
            f"set {', '.join(keys)}, or none of them",
        )
    parts = [decode_base64(key, arguments[key]).replace(b"^", b"\n").replace(b"~", b" ") for key in keys]
    return b"".join(part.rstrip(b"\n") + b"\n" for part in parts)
