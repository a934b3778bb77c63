# SPDX-License-Identifier: Apache-2.0
"""The staged checks of CloudStack's ssvm-check.sh, with real answers and an end to every wait.

Name server, resolution, secondary storage (SSVM), each management server's port, the agent: in this order,
because each later one needs what the earlier ones show.
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
_SERVER = "the NFS server hangs or is gone: look at its NFS service, and at the network to it"
#: By what write_file said.
_STORAGE_HINTS = {
    "denied": _EXPORT,
    "permitted": _EXPORT,
    "Read-only": "export it rw",
    "No space": "make room on the NFS server",
    "quota": "make room on the NFS server",
    "no answer": _SERVER,
    "timed out": _SERVER,
    "Stale": "what was exported is not what it was: systemvm system-vm reboot mounts it anew",
}


class Probes(NamedTuple):
    """How the checks ask; tests give their own."""

    ping: Callable[[str], bool]
    ask_dns: Callable[[str, str], DnsAnswer]
    connect: Callable[[str, int], None]
    write_file: Callable[[Path], str]
    agent_state: Callable[[], str]  # "Up", or why it is not; OSError when it does not run


class CheckInput(NamedTuple):
    """What the checks look at."""

    boot: Mapping[str, str]
    resolv_conf: str
    mounts: str  # of /proc/self/mounts


def run(situation: CheckInput, probes: Probes) -> CheckReport:
    steps = [*_name_server(situation, probes)]
    if situation.boot.get("type") == "secstorage":
        steps += _storage(situation, probes)
    steps += _management(situation.boot, probes)
    steps.append(_agent(probes))
    return CheckReport(steps)


def exit_code(report: CheckReport) -> int:
    """CloudStack's: that of the first step that has one and failed."""
    codes = (EXIT_CODES.get(step.name, 0) for step in report.steps if step.status == ERROR)
    return next((code for code in codes if code), 0)


def text(report: CheckReport) -> str:
    """As ssvm-check.sh prints it; its callers count ERROR and WARNING, and the last line has one each."""
    word = {GOOD: "Good: ", WARNING: "WARNING: ", ERROR: "ERROR: "}
    lines: list[str] = []
    for step in report.steps:
        lines += [RULER, word.get(step.status, "") + step.text]
        if step.hint:
            lines.append(step.hint)
    return "\n".join([*lines, RULER, "Tests Complete. Look for ERROR or WARNING above."]) + "\n"


def name_servers(resolv_conf: str) -> list[str]:
    words = (line.split() for line in resolv_conf.splitlines())
    return [pair[1] for pair in words if len(pair) > 1 and pair[0] == "nameserver"]


def network_mounts(mounts: str) -> list[Path]:
    """Mount points of network file systems; the kernel writes a blank in one as \\040."""
    found = (line.split(" ") for line in mounts.splitlines())
    return [
        Path(words[1].encode().decode("unicode_escape"))
        for words in found
        if len(words) > 2 and words[2] in _NETWORK_FILE_SYSTEMS
    ]


def management_servers(boot: Mapping[str, str]) -> list[tuple[str, int]]:
    """`host=` (a csv) and `port=`, as the agent dials them."""
    port = boot.get("port", "8250")
    return [(host, int(port)) for host in boot.get("host", "").split(",") if host and port.isdigit()]


def _name_server(situation: CheckInput, probes: Probes) -> Iterable[CheckStep]:
    servers = name_servers(situation.resolv_conf)
    if not servers:
        hint = "internaldns1= or dns1= is missing from the boot arguments"
        yield CheckStep("resolve", ERROR, "DNS not resolving: there is no name server", hint)
        return
    if _asked(probes.ping, servers[0]):
        yield CheckStep("ping", GOOD, f"Can ping DNS server {servers[0]}")
    else:
        hint = "a name server may refuse to be pinged; see the routes with: ip route"
        yield CheckStep("ping", WARNING, f"cannot ping DNS server {servers[0]}", hint)
    yield from _dns(servers, probes)


def _dns(servers: list[str], probes: Probes) -> Iterable[CheckStep]:
    """Two things: whether a server answers, and whether the name resolves, by a resolver's rules."""
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
    for words in silent:
        yield CheckStep("dns", status, words, "is it a name server, and do routes and firewalls lead to it?")
    for server in answers:
        yield CheckStep("dns", GOOD, f"DNS server {server} answers")
    failures = [f"{server} answers {one.failure}" for server, one in answers.items() if one.failure]
    if len(failures) < len(answers):
        yield CheckStep("resolve", GOOD, f"DNS resolves {RESOLVED_NAME}")
    else:
        why = "; ".join(failures) or "no name server answers"
        hint = "dns1= and internaldns1= of the boot arguments name the servers, in /etc/resolv.conf"
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
        "storage", ERROR, "Storage nfs is not currently mounted", "the agent mounts it once it is Up"
    )
    servers = situation.boot.get("secondaryStorageServerAddress") or situation.boot.get("storagegateway", "")
    for server in filter(None, servers.split(",")):
        if _asked(probes.ping, server):
            yield CheckStep("storage", GOOD, f"Can ping storage server {server}")
        else:
            yield CheckStep("storage", WARNING, f"cannot ping storage server {server}", "see: ip route")


def _hint_of(wrong: str) -> str:
    """CloudStack's hint where it is true, and what is to be done where it is not."""
    return next((hint for words, hint in _STORAGE_HINTS.items() if words in wrong), "see: dmesg | tail")


def _management(boot: Mapping[str, str], probes: Probes) -> Iterable[CheckStep]:
    servers = management_servers(boot)
    if not servers:
        yield CheckStep("management", ERROR, "the boot arguments name no management server (host=, port=)")
    for host, port in servers:
        try:
            probes.connect(host, port)
        except OSError as error:
            hint = f"{error}; is systemvm-managementd running, and does its host admit this address?"
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
    hint = "journalctl -u systemvm-agent tells why"
    return CheckStep("agent", ERROR, f"Agent process is running, but not connected: {state}", hint)


def _asked(question: Callable[..., bool], *about: str) -> bool:
    """No answer, no route and no permission are all a no."""
    try:
        return question(*about)
    except OSError:
        return False
