# SPDX-License-Identifier: Apache-2.0
"""`systemvm-preinit`: configures name, network, firewall and keys from the boot arguments, once, as root.

It runs before the network and everything that listens. Python starts twenty times slower under emulation, so
this imports only the standard library and starts three programs: nft, ip and ssh-keygen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import gmtime, strftime, time
from typing import NamedTuple

from systemvm.guest import (
    boot_argument_source,
    bootstrap,
    clock,
    cmdline_delivery,
    files,
    firewall,
    kernel,
    name_resolution,
    network,
    ssh,
    timekeeping,
)
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.guest.root_option import split_root
from systemvm.service import journal_entry
from systemvm.service.slowness import scaled_s
from systemvm.wire import boot_argument_keys, boot_arguments
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.serial_report import PREINIT, SerialReport

COMMAND_TIMEOUT_S = 120
_NETWORK_CLASS = Path("/sys/class/net")


class SystemCalls(NamedTuple):
    """The operations on the VM itself, in contrast to files below the root; tests replace them."""

    run: Callable[[list[str], str], None]
    devices: Callable[[], Mapping[str, str]]
    set_host_name: Callable[[str], None]
    set_clock: Callable[[float], None] = clock.set_clock


def run(command: list[str], text: str = "") -> None:
    """Run a program until it ends.

    Raises: BootError with the program's error output when it fails.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=scaled_s(COMMAND_TIMEOUT_S),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BootError(BootFailure.COMMAND_FAILED, f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise BootError(BootFailure.COMMAND_FAILED, f"{' '.join(command[:3])} failed: {why}", text.strip())


def devices() -> dict[str, str]:
    """Return the MAC of each NIC by its name."""
    return {entry.name: (entry / "address").read_text().strip() for entry in _NETWORK_CLASS.iterdir()}


def set_host_name(name: str) -> None:
    Path("/proc/sys/kernel/hostname").write_text(name)


REAL = SystemCalls(run, devices, set_host_name)


def prepare(paths: GuestPaths, machine: SystemCalls = REAL) -> str:
    """Configure the VM and return a summary of one line for the journal.

    Raises: BootError when a boot argument is missing or wrong, a NIC is absent, or a command fails; OSError
    when a file cannot be written.
    """
    paths.boot_up_done.unlink(missing_ok=True)
    text = _receive(paths, machine)
    arguments = boot_arguments.parse(text)
    role = boot_argument_source.role_of(arguments, paths)
    name = boot_argument_source.name_of(arguments)
    plan = network.make_plan(arguments)
    identity = boot_argument_source.identity_bundle(arguments)
    timekeeping.servers(arguments)
    clock_note = _set_clock(arguments, paths, machine)
    firewall_script = firewall.script(paths.nftables, plan, arguments)

    present = machine.devices()
    if any(nic.device not in present for nic in plan.interfaces):
        # udev can be late to load the driver; modprobe returns when its NICs exist
        with suppress(BootError):  # without the module, the absent NIC is the better message
            machine.run(["modprobe", "--quiet", "--use-blacklist", "virtio_net"], "")
        present = machine.devices()
    renaming = plan.renaming(present)
    if renaming:
        machine.run(["ip", "-batch", "-"], renaming)
        present = machine.devices()
    plan.check_devices(present)

    boot_argument_source.store(text, arguments, paths)
    files.write(paths.hostname, name + "\n")
    files.write(paths.hosts, name_resolution.hosts(name, plan))
    files.write(paths.resolv_conf, name_resolution.resolv_conf(plan, arguments))
    machine.set_host_name(name)
    timekeeping.install(arguments, paths)
    kernel.apply(kernel.settings([nic.device for nic in plan.interfaces], arguments), paths)
    machine.run(["nft", "-f", "-"], firewall_script)  # before any address is up
    machine.run(["ip", "-batch", "-"], plan.ip_batch())
    ssh.install(arguments, plan, paths)
    ssh.ensure_host_key(paths, name, lambda command: machine.run(command, ""))
    _make_run_directory(paths)
    bootstrap.deliver(identity, paths, machine.run)
    files.write(paths.boot_up_done, strftime("%a %b %e %H:%M:%S UTC %Y\n", gmtime()))
    nics = ", ".join(f"{nic.device} {addr}" for nic in plan.interfaces for addr in nic.addresses)
    unknown = boot_argument_keys.unknown_keys(arguments)
    ignored = f"; ignored unknown keys: {', '.join(unknown)[:200]}" if unknown else ""
    return f"{name} is a {role.value}: {nics}{ignored}{clock_note}"


def _receive(paths: GuestPaths, machine: SystemCalls) -> str:
    start = ["systemctl", "start", "--no-block", "--job-mode=ignore-dependencies", cmdline_delivery.UNIT]

    def report_waiting(text: str, wait_s: float) -> None:
        _report(BootFailure.AWAITING_BOOT_ARGUMENTS, text, "", paths, wait_s=f"{wait_s:.0f}")

    return cmdline_delivery.receive(paths, lambda: machine.run(start, ""), report_waiting)


def _set_clock(arguments: Mapping[str, str], paths: GuestPaths, machine: SystemCalls) -> str:
    """Correct the clock by this boot's arguments; the stored file does not contain the time."""
    now_s = time()
    if paths.credential(boot_arguments.CMDLINE_CREDENTIAL) is not None:
        since_s = clock.uptime_s()
    else:
        since_s = max(0.0, now_s - paths.cmdline.stat().st_mtime)
    correct_s = clock.corrected_time(arguments, now_s, since_s)
    if correct_s is None:
        return ""
    try:
        machine.set_clock(correct_s)
    except OSError as error:
        # TLS can fail later, and this line gives the reason
        return f"; its clock is wrong by {now_s - correct_s:+.0f} s and cannot be set: {error}"
    return f"; its clock was wrong by {now_s - correct_s:+.0f} s and is corrected"


def _make_run_directory(paths: GuestPaths) -> None:
    """Make the directory of the agent's socket; systemd can already have made it, as root."""
    paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    bootstrap.give_to_agent(paths.run, paths)


def main(arguments: list[str] | None = None) -> int:
    """Configure this VM, with `--root DIR` as the parent of all files; return a BootFailure's exit code."""
    try:
        root, others = split_root(sys.argv[1:] if arguments is None else arguments)
    except ValueError:
        others = ["--root"]
    if others:
        sys.stderr.write("usage: systemvm-preinit [--root DIR]\n")
        return 2
    paths = GuestPaths.from_environment(root, os.environ)
    try:
        summary = prepare(paths)
    except BootError as error:
        _report(error.code, error.message, error.hint, paths)
        return error.code.exit_code
    except OSError as error:
        _report(BootFailure.COMMAND_FAILED, str(error), "", paths)
        return BootFailure.COMMAND_FAILED.exit_code
    sys.stdout.write(f"systemvm-preinit: {summary}\n")
    return 0


def _report(reason: BootFailure, message: str, hint: str, paths: GuestPaths, **figures: str) -> None:
    """Report to the journal, with fields, and to the console, for operators without ssh."""
    text = "".join(line + "\n" for line in SerialReport(PREINIT, reason.value, message, hint).lines())
    # as text, too: journald can lose the unit of an entry whose sender has ended, but not of its output
    sys.stderr.write(text)
    if paths.root == Path("/"):
        _send_to_journal(reason, message, hint, figures)
        try:
            with Path("/dev/console").open("w") as console:
                console.write(text.replace("\n", "\r\n"))
        except OSError:
            sys.stderr.write("systemvm-preinit: cannot write to the console\n")


def _send_to_journal(reason: BootFailure, message: str, hint: str, figures: Mapping[str, str]) -> None:
    waits = reason is BootFailure.AWAITING_BOOT_ARGUMENTS
    entry = {
        "MESSAGE": message,
        "PRIORITY": str(journal_entry.PRIORITY_NOTICE if waits else journal_entry.PRIORITY_ERROR),
        "SYSLOG_IDENTIFIER": PREINIT,
        "REASON": reason.value,
        "HINT": hint,
        **{name.upper(): value for name, value in figures.items()},
    }
    with suppress(OSError):  # the text has the reason, too
        journal_entry.send(entry)


if __name__ == "__main__":
    sys.exit(main())
