# SPDX-License-Identifier: Apache-2.0
"""Output of system VMs with provoked failures, each with the reason and hint that it must lead to."""

from __future__ import annotations

import json
from typing import Any

NAME, ADDRESS, PORT = "s-1-VM", "169.254.0.1", 8250
NOW_S = 1_700_000_000.0
RESET = "\x1b[!p\x1b]104\x07\x1b[?7h"
REBOOT = f"systemvm system-vm reboot {NAME}"
SSH = f"systemvm ssh {NAME} -- systemctl"
AGAIN = f"see systemvm serial {NAME} for its console"
MORE_MEMORY = "give it more memory (system_vms in its zone's file)"


def guest(**changes: Any) -> str:
    """Return the script's output in a healthy guest but for `changes`: text, or text and exit code."""
    parts: dict[str, Any] = {
        "clock": f"{NOW_S:.0f}",
        "preinit": "LoadState=loaded\nActiveState=active\nResult=success\nExecMainStatus=0",
        "agent": "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nSubState=running\n"
        "Result=success\nExecMainStatus=0\nNRestarts=0\nStatusText=dialing 169.254.0.1:8250",
        "preinit-journal": entry("s-1-VM is a ssvm: eth0 169.254.10.2/16"),
        "agent-journal": entry("Control channel: dialing 169.254.0.1:8250", CHANNEL="dialing"),
        "addresses": "lo       UNKNOWN  127.0.0.1/8\neth0     UP       169.254.10.2/16",
        "route": "169.254.0.1 dev eth0 src 169.254.10.2 uid 0\n    cache",
        "dial": "",
        "firewall": "",
    }
    for name, value in changes.items():
        parts[name.replace("_", "-")] = value
    text = ""
    for name, value in parts.items():
        output, code = value if isinstance(value, tuple) else (value, 0)
        text += f"=== {name}\n{output}\n--- {code}\n"
    return text


def unit(**fields: str) -> str:
    return "\n".join(f"{key}={value}" for key, value in {"LoadState": "loaded", **fields}.items())


def entry(message: str, **fields: str) -> str:
    """Return a line of `journalctl -o json`, which has more fields than were requested."""
    return json.dumps({"__CURSOR": "s=1", "MESSAGE": message, **fields})


def not_connected(reason: str, why: str) -> str:
    text = f"Control channel: not connected to 169.254.0.1:8250: {why}; next attempt in 4.1 s"
    return entry(text, CHANNEL="not_connected", REASON=reason, WHY=why, HOST="169.254.0.1")


FAILED = {"ActiveState": "failed", "Result": "exit-code"}
FROM_INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "no boot arguments": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="10"),
            "preinit_journal": entry("no systemd credential", REASON="no_boot_arguments", HINT="give them"),
        },
        "has no boot arguments: no systemd credential",
        "give them",
    ),
    "waits for boot arguments": (
        {
            "preinit": unit(ActiveState="activating"),
            "preinit_journal": entry("no credential came", REASON="awaiting_boot_arguments", WAIT_S="180"),
        },
        "has no boot arguments: it waits for them by qemu-guest-agent",
        f"run {REBOOT}: the machine got no credential at its start",
    ),
    "bad boot arguments": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="11"),
            "preinit_journal": entry("eth0ip='x' is not an address", REASON="bad_boot_arguments", HINT=""),
        },
        "has invalid boot arguments: eth0ip='x' is not an address",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "NIC absent": (
        {"preinit": unit(**FAILED, ExecMainStatus="12"), "preinit_journal": ""},
        "does not have the NICs of its boot arguments",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "agent stopped": (
        {"agent": unit(ActiveState="inactive", Result="success")},
        "is stopped: its unit was ended",
        f"{SSH} start systemvm-agent",
    ),
    "agent masked": (
        {"agent": "LoadState=masked\nUnitFileState=masked-runtime\nActiveState=inactive"},
        "is masked: its unit cannot start",
        f"{SSH} unmask --runtime systemvm-agent, then start it",
    ),
    "agent cannot start": (
        {
            "agent": unit(
                ActiveState="activating", SubState="auto-restart", Result="exit-code", NRestarts="3"
            ),
            "agent_journal": entry("x", REASON="agent_cannot_start", WHY="the identity holds no key"),
        },
        "cannot start: the identity holds no key",
        f"see systemvm ssh {NAME} -- journalctl -u systemvm-agent; a reboot gives it fresh keys",
    ),
    "agent killed for memory": (
        {"agent": unit(ActiveState="failed", Result="oom-kill")},
        "was killed because of a lack of memory",
        MORE_MEMORY,
    ),
    "no route": (
        {"route": ("RTNETLINK answers: Network is unreachable", 2)},
        "has no route to 169.254.0.1",
        f"run {REBOOT} to set up its network again",
    ),
    "route by another NIC": (
        {"route": "169.254.0.1 via 203.0.113.1 dev eth2 src 203.0.113.9 uid 0"},
        "has no route to 169.254.0.1 by its control NIC: the route uses eth2",
        f"run {REBOOT} to set up its network again",
    ),
    "control NIC down": (
        {"addresses": "lo UNKNOWN 127.0.0.1/8\neth0 DOWN"},
        "has no route to 169.254.0.1: its control NIC eth0 is down",
        f"run {REBOOT} to set up its network again",
    ),
    "port refused": (
        {"dial": ("bash: connect: Connection refused", 1)},
        "cannot reach the daemon's port 8250: 169.254.0.1:8250 refused the connection",
        "check control.address and control.port of managementd.yaml, and `nft list ruleset` for a firewall "
        "that rejects the port",
    ),
    "port dropped": (
        {"dial": ("", 124)},
        "cannot reach the daemon's port 8250: 169.254.0.1:8250 does not answer",
        "check `nft list ruleset` of the host for a firewall that drops port 8250 or the bridge cloud0",
    ),
    "no such host": (
        {"dial": ("bash: connect: No route to host", 1)},
        "cannot reach 169.254.0.1: no host has that address on its control network",
        "check with `ip address show cloud0` that the bridge is up and has that address",
    ),
    "clock behind": (
        {"clock": f"{NOW_S - 2 * 86400:.0f}"},
        "has a clock that is 2 days behind",
        f"check the host's own clock with timedatectl, then run {REBOOT}",
    ),
    "another CA": (
        {"agent_journal": not_connected("wrong-ca", "TLS: certificate verify failed")},
        "cannot establish TLS with the daemon: TLS: certificate verify failed",
        f"run {REBOOT} to start it with fresh credentials and the current CA",
    ),
    "hello failed": (
        {"agent_journal": not_connected("hello-failed", "internal error")},
        "is not connected: internal error",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
    "a reason of a later release": (
        {"agent_journal": not_connected("sunspots", "the sun")},
        "is not connected: the sun",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
    "a guest of before protocol 3 that cannot be prepared": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="1"),
            "preinit_journal": entry("systemvm-preinit: no boot arguments: TLS"),
        },
        "cannot be prepared, for an unknown reason: systemvm-preinit: no boot arguments: TLS",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "a guest of before protocol 3 whose agent cannot start": (
        {
            "agent": unit(ActiveState="failed", Result="exit-code"),
            "agent_journal": entry("Traceback") + "\n" + entry("ValueError: x"),
        },
        "cannot start: ValueError: x",
        f"see systemvm ssh {NAME} -- journalctl -u systemvm-agent; a reboot gives it fresh keys",
    ),
    "a guest of before protocol 3 that is not connected": (
        {"agent": unit(ActiveState="active", StatusText="TLS: no"), "agent_journal": entry("TLS: no")},
        "is not connected, for an unknown reason; it reports: TLS: no",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
}
CONSOLES: dict[str, tuple[str, str, str]] = {
    "no root file system": (
        "initrd: REASON=no_root_file_system no root file system on LABEL=root\r\n"
        "initrd: HINT=give QEMU the image as its first disk\r\n"
        "[   13.02] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n",
        "did not boot: no root file system on LABEL=root",
        "destroy it, so that it gets a new disk; if that fails, too, run make images",
    ),
    "no initrd": (
        '[    2.1] VFS: Cannot open root device "LABEL=root" or unknown-block(0,0): error -6\r\n'
        "[    2.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
        "did not boot: the kernel found no root file system on LABEL=root",
        "run make images: kernel, initial file system and disk must be of one image",
    ),
    "kernel panic": (
        "[    5.123456] Kernel panic - not syncing: Fatal exception in interrupt\r\n[    5.2] CPU: 0\r\n",
        "did not boot: the kernel panicked: Fatal exception in interrupt",
        AGAIN,
    ),
    "too little memory": (
        "[    3.0] Kernel panic - not syncing: System is deadlocked on memory\r\n",
        "did not boot: the kernel panicked: System is deadlocked on memory",
        MORE_MEMORY,
    ),
    "no boot arguments": (
        f"{RESET}systemvm-preinit: REASON=no_boot_arguments no systemd credential systemvm.cmdline\r\n"
        "systemvm-preinit: HINT=give QEMU a type=11 SMBIOS file\r\n",
        "has no boot arguments: no systemd credential systemvm.cmdline",
        "give QEMU a type=11 SMBIOS file",
    ),
    "waits for boot arguments": (
        f"{RESET}systemvm-preinit: REASON=awaiting_boot_arguments no credential came\r\n",
        "has no boot arguments: it waits for them by qemu-guest-agent",
        "reboot it: the machine got no credential at its start",
    ),
    "NIC absent": (
        f"{RESET}systemvm-preinit: REASON=nic_absent there is no NIC eth3\r\n"
        "systemvm-preinit: HINT=it has eth0, eth1\r\n[  9.1] more\r\n",
        "does not have the NICs of its boot arguments: there is no NIC eth3",
        "it has eth0, eth1",
    ),
    "an image of before protocol 3": (
        f"{RESET}systemvm-preinit: no boot arguments: none came\r\n  hint: give QEMU a file\r\n",
        "cannot be prepared, for an unknown reason: no boot arguments: none came",
        AGAIN,
    ),
    "emergency mode": (
        f"{RESET}[FAILED] Failed to mount srv.mount - /srv.\r\nYou are in emergency mode. After that\r\n",
        "did not boot: systemd is in emergency mode because srv.mount failed",
        f"{AGAIN}; destroy the VM for a new disk",
    ),
    "out of memory": (
        f"{RESET}[   60.1] Out of memory: Killed process 212 (python3) total-vm:1kB\r\n",
        "has too little memory: the kernel killed python3",
        MORE_MEMORY,
    ),
    "broken disk": (
        f"{RESET}[   60.1] I/O error, dev vda, sector 5 op 0x1:(WRITE) flags 0x800\r\n",
        "cannot use its disk: errors on vda",
        "check the host's disk with dmesg and df; destroy the VM for a new disk",
    ),
    "agent": (
        f"{RESET}systemvm-agent[91]: REASON=agent_cannot_start bad key\r\n",
        "cannot start: bad key",
        AGAIN,
    ),
}
