# SPDX-License-Identifier: Apache-2.0
"""The staged checks: CloudStack's texts, order and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.guest import check
from systemvm.guest.check import CheckInput, Probes
from systemvm.guest.probes import DnsAnswer
from systemvm.wire.agent import CheckReport

BOOT = {
    "type": "secstorage",
    "host": "169.254.0.1,169.254.0.9",
    "port": "8250",
    "secondaryStorageServerAddress": "10.12.0.2",
}
RESOLV_CONF = "# by preinit\nnameserver 203.0.113.10\nnameserver 203.0.113.11\noptions timeout:2\n"
MOUNTS = (
    "proc /proc proc rw 0 0\n"
    "10.12.0.2:/export/secondary /mnt/SecStorage/3d1a nfs4 rw,vers=4.2 0 0\n"
    "srv:/x /mnt/a\\040b nfs rw 0 0\n"
)


SERVERS = ("203.0.113.10", "203.0.113.11")
RESOLVES, EMPTY = DnsAnswer(0, 1), DnsAnswer(0, 0)
SERVFAIL, NXDOMAIN, REFUSED = DnsAnswer(2, 0), DnsAnswer(3, 0), DnsAnswer(5, 0)


class FakeProbes:
    """Probes that fail for the given targets."""

    def __init__(
        self,
        *,
        down: tuple[str, ...] = (),
        wrong: str = "",
        agent: str = "Up, connected to host",
        dns: tuple[DnsAnswer, ...] = (RESOLVES, RESOLVES),
    ) -> None:
        self.down = down
        self.answers = dict(zip(SERVERS, dns, strict=True))
        self.wrong = wrong
        self.agent = agent

    def ping(self, address: str) -> bool:
        return f"ping {address}" not in self.down

    def dns(self, server: str, name: str) -> DnsAnswer:
        if f"dns {server}" in self.down:
            raise TimeoutError(110, "no answer in 3 s")
        return self.answers[server]

    def connect(self, host: str, port: int) -> None:
        if f"connect {host}" in self.down:
            raise ConnectionRefusedError(111, "Connection refused")

    def agent_state(self) -> str:
        if not self.agent:
            raise FileNotFoundError(2, "no socket")
        return self.agent

    def probes(self) -> Probes:
        return Probes(self.ping, self.dns, self.connect, lambda point: self.wrong, self.agent_state)


def check_input(
    boot: dict[str, str] = BOOT, resolv_conf: str = RESOLV_CONF, mounts: str = MOUNTS
) -> CheckInput:
    return CheckInput(boot, resolv_conf, mounts)


def test_all_good_counts_one_error_and_one_warning() -> None:
    report = check.run(check_input(), FakeProbes().probes())
    text = check.text(report)
    assert check.exit_code(report) == 0
    assert (text.count("ERROR"), text.count("WARNING")) == (1, 1)  # in the last line; Marvin counts them
    assert text.splitlines()[-1] == "Tests Complete. Look for ERROR or WARNING above."
    assert "Good: Can ping DNS server 203.0.113.10" in text
    assert "Good: DNS resolves cloudstack.apache.org" in text
    assert "nfs is currently mounted on /mnt/SecStorage/3d1a. Can write to mount point" in text
    assert "Good: Can connect to management server 169.254.0.9 port 8250" in text
    assert "Good: Agent process is running: Up" in text
    assert text.splitlines()[0] == "=" * 48


@pytest.mark.parametrize(
    ("fake", "code", "message"),
    [
        (FakeProbes(down=("ping 203.0.113.10",)), 0, "WARNING: cannot ping DNS server"),
        (FakeProbes(down=("dns 203.0.113.10",)), 0, "Good: DNS resolves"),
        (FakeProbes(down=("dns 203.0.113.10", "dns 203.0.113.11")), 2, "ERROR: DNS not resolving"),
        (FakeProbes(down=("connect 169.254.0.9",)), 4, "ERROR: Cannot connect to 169.254.0.9 port 8250"),
        (FakeProbes(agent=""), 3, "ERROR: Agent process not running"),
        (
            FakeProbes(agent="Enrolling, dialing"),
            3,
            "ERROR: Agent process is running, but not connected: Enrolling",
        ),
        (FakeProbes(wrong="Permission denied"), 0, "You need to export with norootsquash"),
        (
            FakeProbes(wrong="no answer in 10 s"),
            0,
            "ERROR: Cannot write to mount point /mnt/a b: no answer in 10 s",
        ),
        (
            FakeProbes(down=("dns 203.0.113.10", "dns 203.0.113.11"), agent=""),
            2,
            "ERROR: Agent process not running",
        ),
    ],
)
def test_each_fault_has_its_exit_code_and_message(fake: FakeProbes, code: int, message: str) -> None:
    report = check.run(check_input(), fake.probes())
    assert check.exit_code(report) == code
    assert message in check.text(report)


def dns_lines(report: CheckReport) -> list[tuple[str, str]]:
    return [(step.status, step.text) for step in report.steps if step.name in ("dns", "resolve")]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (REFUSED, "REFUSED: the server refuses queries of this VM"),
        (SERVFAIL, "SERVFAIL: the server could not resolve the name"),
        (NXDOMAIN, "NXDOMAIN: the name does not exist"),
        (EMPTY, "the name has no IPv4 address"),
        (DnsAnswer(9, 0), "response code 9"),
    ],
)
def test_an_answer_of_the_server_does_not_mean_that_the_name_resolves(answer: DnsAnswer, reason: str) -> None:
    report = check.run(
        check_input(resolv_conf="nameserver 203.0.113.10\n"), FakeProbes(dns=(answer, answer)).probes()
    )
    assert dns_lines(report) == [
        ("good", "DNS server 203.0.113.10 answers"),
        ("error", f"DNS not resolving cloudstack.apache.org: 203.0.113.10 answers {reason}"),
    ]
    assert check.exit_code(report) == 2


def test_silent_name_servers_are_errors() -> None:
    report = check.run(check_input(), FakeProbes(down=tuple(f"dns {one}" for one in SERVERS)).probes())
    assert dns_lines(report) == [
        ("error", "DNS server 203.0.113.10 does not answer: no answer in 3 s"),
        ("error", "DNS server 203.0.113.11 does not answer: no answer in 3 s"),
        ("error", "DNS not resolving cloudstack.apache.org: no name server answers"),
    ]


def test_the_next_server_is_queried_by_a_resolvers_rules() -> None:
    """NXDOMAIN is final; REFUSED and SERVFAIL are not."""
    for first in (REFUSED, SERVFAIL):
        report = check.run(check_input(), FakeProbes(dns=(first, RESOLVES)).probes())
        assert dns_lines(report)[-1] == ("good", "DNS resolves cloudstack.apache.org")
        assert check.exit_code(report) == 0
    report = check.run(check_input(), FakeProbes(dns=(NXDOMAIN, RESOLVES)).probes())
    assert "203.0.113.10 answers NXDOMAIN" in dns_lines(report)[-1][1]
    assert check.exit_code(report) == 2
    slow = check.run(check_input(), FakeProbes(down=("dns 203.0.113.10",)).probes())
    assert [status for status, _ in dns_lines(slow)] == ["warning", "good", "good"]


def test_a_store_that_is_not_mounted_is_an_error() -> None:
    report = check.run(check_input(mounts=""), FakeProbes(down=("ping 10.12.0.2",)).probes())
    text = check.text(report)
    assert "ERROR: Storage nfs is not currently mounted" in text
    assert "WARNING: cannot ping storage server 10.12.0.2" in text
    assert check.exit_code(report) == 0


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("Permission denied", "norootsquash"),
        ("Operation not permitted", "norootsquash"),
        ("Read-only file system", "rw"),
        ("No space left on device", "make room"),
        ("Disk quota exceeded", "make room"),
        ("no answer in 10 s", "check the service on the NFS server"),
        ("Connection timed out", "check the service on the NFS server"),
        ("Stale file handle", "to mount it again"),
        ("Input/output error", "dmesg"),
    ],
)
def test_a_store_that_cannot_be_written_has_a_hint(wrong: str, hint: str) -> None:
    report = check.run(check_input(), FakeProbes(wrong=wrong).probes())
    [first, _] = [step for step in report.steps if step.name == "storage"]
    assert first.text.endswith(f": {wrong}")
    assert hint in first.hint


def test_a_console_proxy_has_no_store() -> None:
    report = check.run(check_input(BOOT | {"type": "consoleproxy"}, mounts=""), FakeProbes().probes())
    names = [step.name for step in report.steps]
    assert names == ["ping", "dns", "resolve", "management", "management", "agent"]


def test_missing_name_servers_and_hosts_are_errors() -> None:
    report = check.run(CheckInput({"type": "consoleproxy"}, "", ""), FakeProbes().probes())
    assert [(step.name, step.status) for step in report.steps] == [
        ("resolve", "error"),
        ("management", "error"),
        ("agent", "good"),
    ]


def test_parsers_return_their_fields() -> None:
    assert check.name_servers("nameserver\nnameserver 1.2.3.4 x\n#nameserver 5.6.7.8\n") == ["1.2.3.4"]
    assert check.network_mounts(MOUNTS) == [Path("/mnt/SecStorage/3d1a"), Path("/mnt/a b")]
    assert check.management_servers({"host": "a,,b", "port": "1"}) == [("a", 1), ("b", 1)]
    assert check.management_servers({"host": "a"}) == [("a", 8250)]
    assert check.management_servers({"host": "a", "port": "x"}) == []
