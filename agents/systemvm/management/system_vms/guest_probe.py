# SPDX-License-Identifier: Apache-2.0
"""Probes a system VM from inside through its guest agent, and explains why its agent is not connected.

The probe is one read-only shell script, because each program that qemu-ga starts costs an emulated guest
time. Its output is judged in the order of a boot: boot arguments, agent, route, port, clock, TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

from systemvm.management import boot_failure_messages
from systemvm.management.control.agent import AgentStatus
from systemvm.management.control.clock import ALERT_S, off_by
from systemvm.management.state.status import AgentState
from systemvm.management.system_vms import guest_journal, linux_commands
from systemvm.management.system_vms.linux_commands import DialResult
from systemvm.service.slowness import BUSY_SLOWDOWN
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.control_failure import ChannelState, ControlFailure
from systemvm.wire.slowness import MachineLoad

LOADAVG = "/proc/loadavg"
PREINIT, AGENT = "systemvm-preinit.service", "systemvm-agent.service"
#: Of the guest's own programs, before the timeout scale; the caller's deadline is longer.
DIAL_S = 6
_LONGEST = 300

_SCRIPT = """\
export LC_ALL=C SYSTEMD_COLORS=0
part() {{ echo "=== $1"; shift; timeout {limit_s} "$@" 2>&1; echo "--- $?"; }}
part clock date +%s
part preinit systemctl show {preinit} -p LoadState -p ActiveState -p Result -p ExecMainStatus
part agent systemctl show {agent} -p LoadState -p UnitFileState -p ActiveState -p SubState -p Result \
-p ExecMainStatus -p NRestarts -p StatusText
part preinit-journal journalctl -b -q --no-pager -o json --output-fields=MESSAGE,REASON,HINT -n 6 \
-t systemvm-preinit
part agent-journal journalctl -b -q --no-pager -o json --output-fields=MESSAGE,REASON,CHANNEL,WHY -n 30 \
-t systemvm-agent
part addresses ip -brief address show
part route ip route get {address}
if systemctl -q is-active {agent}; then
    part dial timeout {dial_s} bash -c 'exec 3<>/dev/tcp/{address}/{port}'
fi
part firewall sh -c 'nft list ruleset | grep -F counter | head -n 20'
"""


@frozen
class ProgramOutput:
    """Output and exit code of one program of the script."""

    text: str
    code: int

    @property
    def fields(self) -> dict[str, str]:
        """The output of `systemctl show` as a mapping."""
        return linux_commands.properties(self.text)

    @property
    def entries(self) -> list[guest_journal.Entry]:
        """Of `journalctl -o json`."""
        return guest_journal.read_entries(self.text)


_NO_OUTPUT = ProgramOutput("", -1)


@frozen
class GuestProbe:
    """The outputs of the script's programs by their names."""

    parts: Mapping[str, ProgramOutput]
    #: Seconds that its clock is ahead of the host's; None: it did not say.
    skew_s: float | None = field(default=None)
    load: MachineLoad = field(factory=MachineLoad)

    def __getitem__(self, name: str) -> ProgramOutput:
        return self.parts.get(name, _NO_OUTPUT)


def script(address: str, port: int, timeout_scale: float) -> str:
    """Return the script for `/bin/sh -c`; it only reads and ends by itself."""
    return _SCRIPT.format(
        preinit=PREINIT,
        agent=AGENT,
        address=address,
        port=port,
        limit_s=round(8 * timeout_scale),
        dial_s=round(DIAL_S * min(timeout_scale, 2.0)),
    )


def load_of(loadavg: bytes) -> MachineLoad:
    """Return the load from /proc/loadavg (proc(5)): with one CPU, each runnable task slows the others.

    >>> load_of(b"9.20 8.00 7.00 6/120 4000").slowdown, load_of(b"0.10 0 0 1/90 400").is_busy
    (6.0, False)
    """
    fields = loadavg.split()
    runnable = fields[3].partition(b"/")[0] if len(fields) > 3 else b""
    if not runnable.isdigit():
        return MachineLoad()
    slowdown = float(max(1, int(runnable)))
    return MachineLoad(slowdown=slowdown, load_1min=float(fields[0]), is_busy=slowdown >= BUSY_SLOWDOWN)


def parse(output: str, host_unix_s: float, loadavg: bytes = b"") -> GuestProbe:
    """Parse the script's output; `host_unix_s` is the host's time at its beginning."""
    parts: dict[str, ProgramOutput] = {}
    for piece in re.split(r"^=== ", output, flags=re.M)[1:]:
        name, _, body = piece.partition("\n")
        text, dashes, code = body.rpartition("--- ")
        if not dashes or not code.strip().isdigit():
            text, code = body, "-1"  # truncated
        parts[name.strip()] = ProgramOutput(text.strip(), int(code))
    clock = parts.get("clock", _NO_OUTPUT).text
    return GuestProbe(parts, int(clock) - host_unix_s if clock.isdigit() else None, load_of(loadavg))


def explain(probe: GuestProbe, name: str, address: str, port: int) -> AgentStatus | None:
    """Return why the agent is not connected; None when the probe shows no fault."""
    for check in (_of_preinit, _of_agent, _of_route, _of_port, _of_clock, _of_channel):
        found = check(probe, name, address, port)
        if found is not None:
            return AgentStatus(AgentState.ALERT, _one_line(found[0]), found[1])
    return None


Problem = tuple[str, str] | None


def _of_preinit(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    unit = probe["preinit"].fields
    entries = probe["preinit-journal"].entries
    report = guest_journal.last_with(entries, "REASON")
    reason = "" if report is None else report["REASON"]
    match unit.get("ActiveState"):
        case "failed":
            by_exit_code = BootFailure.of_exit_code(int(unit.get("ExecMainStatus") or 0))
            if by_exit_code is not None:
                reason = by_exit_code.value
            message = guest_journal.last_message(entries) if report is None else report.get("MESSAGE", "")
            hint = "" if report is None else report.get("HINT", "")
            fresh = f"run systemvm system-vm reboot {name} to start it with fresh ones"
            return boot_failure_messages.describe(reason, message), hint or fresh
        case "activating":
            if reason == BootFailure.AWAITING_BOOT_ARGUMENTS.value:
                return (
                    boot_failure_messages.describe(reason, ""),
                    f"run systemvm system-vm reboot {name}: the machine got no credential at its start",
                )
            return "is still being prepared", "wait some seconds"
    return None


def _of_agent(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    unit = probe["agent"].fields
    inside_it = f"systemvm ssh {name} -- systemctl"
    state, sub, result = unit.get("ActiveState"), unit.get("SubState"), unit.get("Result", "")
    if state == "active":
        return None
    if linux_commands.is_masked(unit):
        unmask = f"{inside_it} unmask --runtime systemvm-agent, then start it"
        return "is masked: its unit cannot start", unmask
    if state == "inactive" and result in ("", "success"):
        return "is stopped: its unit was ended", f"{inside_it} start systemvm-agent"
    if result == "oom-kill":
        return "was killed because of a lack of memory", "give it more memory (system_vms in its zone's file)"
    if result == "watchdog":
        return (
            "hung and was ended by its watchdog",
            f"systemvm support-bundle, then {inside_it} restart systemvm-agent",
        )
    if state == "failed" or sub == "auto-restart":
        why = _why_not_started(probe["agent-journal"].entries)
        tries = unit.get("NRestarts", "0")
        return (
            f"cannot start: {why}"
            if why
            else f"ended with exit code {unit.get('ExecMainStatus', '?')}, {tries} times",
            f"see systemvm ssh {name} -- journalctl -u systemvm-agent; a reboot gives it fresh keys",
        )
    if state in ("activating", "reloading"):
        return "is starting", "wait some seconds"
    return None


def _why_not_started(entries: list[guest_journal.Entry]) -> str:
    """Return the agent's own reason, else its last message, which is the last line of a traceback."""
    for entry in reversed(entries):
        if BootFailure.of(entry.get("REASON", "")) is not None:
            return entry.get("WHY", "")
    return guest_journal.last_message(entries)


def _of_route(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    links = linux_commands.link_states(probe["addresses"].text)
    reboot = f"run systemvm system-vm reboot {name} to set up its network again"
    if links and "eth0" not in links:
        return "has no control NIC: there is no eth0", reboot
    if links and links["eth0"] == "DOWN":
        return f"has no route to {address}: its control NIC eth0 is down", reboot
    route = probe["route"]
    if route.code == 0:
        device = linux_commands.route_device(route.text)
        if device not in (None, "eth0", "lo"):
            return f"has no route to {address} by its control NIC: the route uses {device}", reboot
        return None
    return (f"has no route to {address}", reboot) if linux_commands.has_no_route(route.text) else None


def _of_port(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    dial = probe["dial"]
    if dial.code == _NO_OUTPUT.code:
        return None
    where = f"{address}:{port}"
    match linux_commands.dial_result(dial.text, dial.code):
        case DialResult.REFUSED:
            return (
                f"cannot reach the daemon's port {port}: {where} refused the connection",
                "check control.address and control.port of managementd.yaml, and `nft list ruleset` for a "
                "firewall that rejects the port",
            )
        case DialResult.UNREACHABLE:
            return (
                f"cannot reach {address}: no host has that address on its control network",
                "check with `ip address show cloud0` that the bridge is up and has that address",
            )
        case DialResult.NO_ANSWER:
            return (
                f"cannot reach the daemon's port {port}: {where} does not answer",
                "check `nft list ruleset` of the host for a firewall that drops "
                f"port {port} or the bridge cloud0",
            )
    return None


def _of_clock(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    if probe.skew_s is None or abs(probe.skew_s) <= ALERT_S:
        return None
    return (
        f"has a clock that is {off_by(probe.skew_s)}",
        f"check the host's own clock with timedatectl, then run systemvm system-vm reboot {name}",
    )


def _of_channel(probe: GuestProbe, name: str, address: str, port: int) -> Problem:
    """Check the agent's own report of its control connection."""
    logs = f"see systemvm logs {name}; the agent dials again automatically"
    entry = guest_journal.last_with(probe["agent-journal"].entries, "CHANNEL")
    if entry is None:  # an agent before protocol 3: its text is quoted
        text = probe["agent"].fields.get("StatusText", "")
        return (f"is not connected, for an unknown reason; it reports: {text}", logs) if text else None
    if entry["CHANNEL"] != ChannelState.NOT_CONNECTED.value:
        return None
    failure, why = ControlFailure.of(entry.get("REASON", "")), entry.get("WHY", "")
    if failure is not None and failure.is_of_network:
        return None  # an old failure: the port answers now
    if failure is not None and failure.is_of_tls:
        return (
            f"cannot establish TLS with the daemon: {why}",
            f"run systemvm system-vm reboot {name} to start it with fresh credentials and the current CA",
        )
    return f"is not connected: {why}", logs


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
