# SPDX-License-Identifier: Apache-2.0
"""The staged checks of CloudStack's ssvm-check.sh, each with a timeout.

They check the name server, name resolution, secondary storage (SSVM), each management server's port and the
agent, in this order, because each step depends on the earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from systemvm.guest.probes import DnsAnswer
from systemvm.wire.agent import CheckReport, CheckStep

GOOD, WARNING, ERROR = "good", "warning", "error"
RESOLVED_NAME = "cloudstack.apache.org"
RULER = "=" * 48

#: CloudStack's exit codes; a store that is not mounted does not change the code.
EXIT_CODES = {"dns": 2, "resolve": 2, "agent": 3, "management": 4}
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs"})

_EXPORT = "You need to export with norootsquash"
_SERVER = "check the service on the NFS server, and the network to it"
#: By a part of the error of `write_file`.
_STORAGE_HINTS = {
    "denied": _EXPORT,
    "permitted": _EXPORT,
    "Read-only": "export it rw",
    "No space": "make room on the NFS server",
    "quota": "make room on the NFS server",
    "no answer": _SERVER,
    "timed out": _SERVER,
    "Stale": 'the export was replaced: run "systemvm system-vm reboot" on the host to mount it again',
}


class Probes(NamedTuple):
    """The functions that the checks call; tests pass their own."""

    ping: Callable[[str], bool]
    ask_dns: Callable[[str, str], DnsAnswer]
    connect: Callable[[str, int], None]
    write_file: Callable[[Path], str]
    agent_state: Callable[[], str]  # "Up", or why not; raises OSError when the agent does not run


class CheckInput(NamedTuple):
    """The files that the checks read."""

    boot: Mapping[str, str]
    resolv_conf: str
    mounts: str  # of /proc/self/mounts


def run(situation: CheckInput, probes: Probes) -> CheckReport:
    """Run all checks of the VM's role."""
    steps = [*_name_server(situation, probes)]
    if situation.boot.get("type") == "secstorage":
        steps += _storage(situation, probes)
    steps += _management(situation.boot, probes)
    steps.append(_agent(probes))
    return CheckReport(steps)


def exit_code(report: CheckReport) -> int:
    """Return CloudStack's exit code: that of the first failed step that has one."""
    codes = (EXIT_CODES.get(step.name, 0) for step in report.steps if step.status == ERROR)
    return next((code for code in codes if code), 0)


def text(report: CheckReport) -> str:
    """Return the report as ssvm-check.sh prints it; callers count ERROR and WARNING."""
    prefix = {GOOD: "Good: ", WARNING: "WARNING: ", ERROR: "ERROR: "}
    lines: list[str] = []
    for step in report.steps:
        lines += [RULER, prefix.get(step.status, "") + step.text]
        if step.hint:
            lines.append(step.hint)
    return "\n".join([*lines, RULER, "Tests Complete. Look for ERROR or WARNING above."]) + "\n"


def name_servers(resolv_conf: str) -> list[str]:
    """Return the name servers in resolv.conf's text."""
    fields = (line.split() for line in resolv_conf.splitlines())
    return [pair[1] for pair in fields if len(pair) > 1 and pair[0] == "nameserver"]


def network_mounts(mounts: str) -> list[Path]:
    """Return the mount points of network file systems; the kernel writes a blank as \\040."""
    entries = (line.split(" ") for line in mounts.splitlines())
    return [
        Path(fields[1].encode().decode("unicode_escape"))
        for fields in entries
        if len(fields) > 2 and fields[2] in _NETWORK_FILE_SYSTEMS
    ]


def management_servers(boot: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the hosts in `host=` (comma-separated) with `port=`, as the agent dials them."""
    port = boot.get("port", "8250")
    return [(host, int(port)) for host in boot.get("host", "").split(",") if host and port.isdigit()]


def _name_server(situation: CheckInput, probes: Probes) -> Iterable[CheckStep]:
    servers = name_servers(situation.resolv_conf)
    if not servers:
        hint = "set internaldns1= or dns1= in the boot arguments"
        yield CheckStep("resolve", ERROR, "DNS not resolving: no name server is configured", hint)
        return
    if _succeeds(probes.ping, servers[0]):
        yield CheckStep("ping", GOOD, f"Can ping DNS server {servers[0]}")
    else:
        hint = 'check the routes with "ip route"; a name server can ignore pings'
        yield CheckStep("ping", WARNING, f"cannot ping DNS server {servers[0]}", hint)
    yield from _dns(servers, probes)


def _dns(servers: list[str], probes: Probes) -> Iterable[CheckStep]:
    """Check whether a server answers, and whether the name resolves by a resolver's rules."""
    silent: list[str] = []
    answers: dict[str, DnsAnswer] = {}
    for server in servers:
        try:
            answers[server] = probes.ask_dns(server, RESOLVED_NAME)
        except OSError as error:
            silent.append(f"DNS server {server} does not answer: {error.strerror or error}")
            continue
        if answers[server].is_final:
            break
    status = WARNING if answers else ERROR
    for failure in silent:
        yield CheckStep("dns", status, failure, "check the address, the routes and the firewalls")
    for server in answers:
        yield CheckStep("dns", GOOD, f"DNS server {server} answers")
    failures = [f"{server} answers {one.failure}" for server, one in answers.items() if one.failure]
    if len(failures) < len(answers):
        yield CheckStep("resolve", GOOD, f"DNS resolves {RESOLVED_NAME}")
    else:
        why = "; ".join(failures) or "no name server answers"
        hint = "check the servers in /etc/resolv.conf (boot arguments dns1= and internaldns1=)"
        yield CheckStep("resolve", ERROR, f"DNS not resolving {RESOLVED_NAME}: {why}", hint)


def _storage(situation: CheckInput, probes: Probes) -> Iterable[CheckStep]:
    mounted = network_mounts(situation.mounts)
    for point in mounted:
        wrong = probes.write_file(point)
        if not wrong:
            yield CheckStep("storage", GOOD, f"nfs is currently mounted on {point}. Can write to mount point")
        else:
            yield CheckStep(
                "storage", ERROR, f"Cannot write to mount point {point}: {wrong}", _hint_of(wrong)
            )
    if mounted:
        return
    yield CheckStep(
        "storage",
        ERROR,
        "Storage nfs is not currently mounted",
        "wait until the agent is Up: it mounts the storage",
    )
    servers = situation.boot.get("secondaryStorageServerAddress") or situation.boot.get("storagegateway", "")
    for server in filter(None, servers.split(",")):
        if _succeeds(probes.ping, server):
            yield CheckStep("storage", GOOD, f"Can ping storage server {server}")
        else:
            hint = 'check the routes with "ip route"'
            yield CheckStep("storage", WARNING, f"cannot ping storage server {server}", hint)


def _hint_of(wrong: str) -> str:
    """Return CloudStack's hint where it applies, else our own."""
    return next((hint for part, hint in _STORAGE_HINTS.items() if part in wrong), 'see "dmesg | tail"')


def _management(boot: Mapping[str, str], probes: Probes) -> Iterable[CheckStep]:
    servers = management_servers(boot)
    if not servers:
        yield CheckStep("management", ERROR, "the boot arguments name no management server (host=, port=)")
    for host, port in servers:
        try:
            probes.connect(host, port)
        except OSError as error:
            hint = f"{error}; check that systemvm-managementd runs and that its host admits this address"
            yield CheckStep("management", ERROR, f"Cannot connect to {host} port {port}", hint)
        else:
            yield CheckStep("management", GOOD, f"Can connect to management server {host} port {port}")


def _agent(probes: Probes) -> CheckStep:
    try:
        state = probes.agent_state()
    except OSError as error:
        hint = f"{error}; Try restarting the SSVM: systemctl restart systemvm-agent"
        return CheckStep("agent", ERROR, "Agent process not running", hint)
    if state.startswith("Up"):
        return CheckStep("agent", GOOD, f"Agent process is running: {state}")
    hint = 'see "journalctl -u systemvm-agent"'
    return CheckStep("agent", ERROR, f"Agent process is running, but not connected: {state}", hint)


def _succeeds(probe: Callable[..., bool], *arguments: str) -> bool:
    """Return the probe's result, False for any OSError."""
    try:
        return probe(*arguments)
    except OSError:
        return False
