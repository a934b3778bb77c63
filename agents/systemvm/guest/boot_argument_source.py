# SPDX-License-Identifier: Apache-2.0
"""Where the boot arguments come from, what they must hold, and the files that keep them for others.

Two ways in: systemd's credential `systemvm.cmdline` (SMBIOS or fw_cfg, by file), or CloudStack's
`/var/cache/cloud/cmdline`, which a hypervisor host writes through qemu-guest-agent.
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
    """The text of the boot arguments; the credential wins, because it is of this very start."""
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
            raise boot_argument_error(f"cannot read the boot arguments in {source}: {error}") from error
        if text.strip():
            return text
    raise BootError(
        BootFailure.NO_BOOT_ARGUMENTS,
        f"neither the systemd credential {boot_arguments.CMDLINE_CREDENTIAL!r} nor {paths.cmdline} exists",
        "start QEMU with -smbios type=11,path=FILE; FILE: io.systemd.credential:systemvm.cmdline=KEY=VALUE …",
    )


def role_of(arguments: Mapping[str, str], paths: GuestPaths) -> Role:
    """Which appliance this is to be; the image must have been built for it."""
    if "type" not in arguments:
        raise boot_argument_error("the boot arguments have no type=", "type=secstorage or type=consoleproxy")
    try:
        role = Role.from_boot_type(arguments["type"])
    except ValueError as error:
        raise boot_argument_error(str(error)) from error
    if role is Role.MANAGEMENT:
        raise boot_argument_error("type=management is no system VM", "type=secstorage or type=consoleproxy")
    built_for = image_facts(paths).get("role")
    if built_for and built_for != role.value:
        raise boot_argument_error(
            f"this image is a {built_for} appliance, but type={arguments['type']} asks for {role.value}"
        )
    return role


def name_of(arguments: Mapping[str, str]) -> str:
    """The VM's name, which is also its host name and the name in its certificate."""
    name = arguments.get("name", "")
    if not _HOST_NAME.fullmatch(name):
        raise boot_argument_error(
            f"name={name!r} is not a host name" if name else "the boot arguments have no name="
        )
    return name


def image_facts(paths: GuestPaths) -> dict[str, str]:
    """What the build wrote about the image: version, sha256, role, built; empty outside an image."""
    try:
        facts = json.loads(paths.image_json.read_text())
        return {str(key): str(value) for key, value in facts.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise boot_argument_error(f"{paths.image_json} is not a JSON object: {error}") from error


def store(text: str, arguments: Mapping[str, str], paths: GuestPaths) -> None:
    """Leave CloudStack's files: all but an identity for root alone, and all but the secrets for everyone.

    The identity is in memory by then, for the agent alone, which erases it when it has its own. The time is
    over too: when preinit is run again, nobody must set the clock back to it.
    """
    over = {*boot_arguments.IDENTITY_KEYS, boot_arguments.CLOCK}
    kept_words = [word for word in text.split() if word.partition("=")[0] not in over]
    files.write(paths.cmdline, " ".join(kept_words) + "\n", 0o600)
    shown = {key: value for key, value in arguments.items() if key not in boot_arguments.SECRET_KEYS}
    files.write(paths.cmd_line_json, json.dumps({"type": "cmdline", "cmd_line": shown}, indent=1) + "\n")


def read_stored(paths: GuestPaths) -> dict[str, str]:
    """The boot arguments without secrets, as the agent sees them."""
    try:
        document = json.loads(paths.cmd_line_json.read_text())
        return {str(key): str(value) for key, value in document["cmd_line"].items()}
    except FileNotFoundError as error:
        raise BootError(
            BootFailure.NO_BOOT_ARGUMENTS,
            f"{paths.cmd_line_json} is missing",
            "see systemctl status systemvm-preinit",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise boot_argument_error(f"cannot read {paths.cmd_line_json}: {error}") from error


def decode_base64(key: str, value: str) -> bytes:
    """The bytes of a base64 argument; missing padding is forgiven, since upstream's own parser cuts it."""
    try:
        return binascii.a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error as error:
        raise boot_argument_error(f"{key}= is not base64: {error}") from error


def identity_bundle(arguments: Mapping[str, str]) -> bytes | None:
    """The identity in CloudStack's keys as one PEM bundle; each is base64, of PEM with `^` and `~`."""
    keys = boot_arguments.IDENTITY_KEYS
    given = [key for key in keys if arguments.get(key)]
    if not given:
        return None
    if len(given) != len(keys):
        raise boot_argument_error(
            f"of {', '.join(keys)} only {', '.join(given)} came", "an identity needs all three"
        )
    parts = [decode_base64(key, arguments[key]).replace(b"^", b"\n").replace(b"~", b" ") for key in keys]
    return b"".join(part.rstrip(b"\n") + b"\n" for part in parts)
