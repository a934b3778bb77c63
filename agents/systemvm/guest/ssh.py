# SPDX-License-Identifier: Apache-2.0
"""Ssh for operators: on the control address alone, by the boot arguments' key alone, with own host keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from systemvm.guest import files
from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.boot_argument_source import decode_base64
from systemvm.guest.network import NetworkPlan
from systemvm.guest.paths import GuestPaths

PORT = 3922
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")


def authorized_keys(arguments: Mapping[str, str]) -> str:
    """root's authorized_keys; empty without `authorized_key=`, so that no earlier start's key stays valid."""
    value = arguments.get("authorized_key", "")
    if not value:
        return ""
    try:
        key = decode_base64("authorized_key", value).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise boot_argument_error(
            "authorized_key= does not hold a public key in OpenSSH's text form"
        ) from error
    if "\n" in key or not key.startswith(_KEY_TYPES) or len(key.split()) < 2:
        raise boot_argument_error(
            "authorized_key= does not hold one public key in OpenSSH's text form", "ssh-ed25519 AAAA…"
        )
    return key + "\n"


def listen_conf(plan: NetworkPlan) -> str:
    """A drop-in for sshd; a port in ListenAddress keeps it off every other address and off port 22."""
    nic = plan.control if plan.control.addresses else plan.management
    if nic is None or not nic.addresses:
        raise boot_argument_error("neither eth0 nor the management NIC has an address for ssh to listen on")
    address = nic.addresses[0].ip
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"ListenAddress {shown}:{PORT}\n"


def ensure_host_key(paths: GuestPaths, name: str, run: Callable[[list[str]], None]) -> None:
    """Make the host key of this start (a second preinit keeps it); the agent tells the daemon of it."""
    key = paths.ssh_host_key
    public = key.with_name(key.name + ".pub")
    if key.is_file() and key.stat().st_size and public.is_file():
        return
    key.unlink(missing_ok=True)  # half of a pair, left by a power cut, would make ssh-keygen ask a question
    public.unlink(missing_ok=True)
    key.parent.mkdir(parents=True, exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{name}", "-f", str(key)])


def install(arguments: Mapping[str, str], plan: NetworkPlan, paths: GuestPaths) -> None:
    files.write(paths.sshd_listen, listen_conf(plan))
    paths.authorized_keys.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(paths.authorized_keys, authorized_keys(arguments), 0o600)
