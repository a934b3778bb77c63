# SPDX-License-Identifier: Apache-2.0
"""ssh for operators: only on the control address, only with the boot arguments' key, with a new host key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from systemvm.guest import files
from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.boot_argument_source import decode_base64
from systemvm.guest.network_plan import NetworkPlan
from systemvm.guest.paths import GuestPaths

PORT = 3922
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")


def authorized_keys(arguments: Mapping[str, str]) -> str:
    """Return root's authorized_keys; empty without `authorized_key=`, so that no earlier key stays valid.

    Raises: BootError when the value is not one OpenSSH public key.
    """
    value = arguments.get("authorized_key", "")
    if not value:
        return ""
    try:
        key = decode_base64("authorized_key", value).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise boot_argument_error("authorized_key= is not a public key in OpenSSH's text format") from error
    if "\n" in key or not key.startswith(_KEY_TYPES) or len(key.split()) < 2:
        raise boot_argument_error(
            "authorized_key= is not one public key in OpenSSH's text format",
            "give base64 of ssh-ed25519 AAAA…",
        )
    return key + "\n"


def listen_conf(plan: NetworkPlan) -> str:
    """Return a drop-in for sshd; ListenAddress with a port excludes other addresses and port 22.

    Raises: BootError when neither NIC has an address.
    """
    nic = plan.control if plan.control.addresses else plan.management
    if nic is None or not nic.addresses:
        raise boot_argument_error(
            "ssh has no address to listen on: neither eth0 nor the management NIC has one"
        )
    address = nic.addresses[0].ip
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"ListenAddress {host}:{PORT}\n"


def ensure_host_key(paths: GuestPaths, name: str, run: Callable[[list[str]], None]) -> None:
    """Generate this boot's host key, unless it exists; the agent reports it to the daemon."""
    key = paths.ssh_host_key
    public = key.with_name(key.name + ".pub")
    if key.is_file() and key.stat().st_size and public.is_file():
        return
    key.unlink(missing_ok=True)  # with half of a pair, left by a power loss, ssh-keygen would prompt
    public.unlink(missing_ok=True)
    key.parent.mkdir(parents=True, exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{name}", "-f", str(key)])


def install(arguments: Mapping[str, str], plan: NetworkPlan, paths: GuestPaths) -> None:
    files.write(paths.sshd_listen, listen_conf(plan))
    paths.authorized_keys.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(paths.authorized_keys, authorized_keys(arguments), 0o600)
