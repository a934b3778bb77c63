# SPDX-License-Identifier: Apache-2.0
"""A lab without system VMs: real servers in namespaces, which leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from free_ports import plan_with_free_ports
from systemvm.lab import namespaces, samples, teardown
from systemvm.lab.cloud import Cloud
from systemvm.lab.commands import run
from systemvm.lab.errors import LabError
from systemvm.lab.plan import SOURCE, SOURCE_NAME, STORAGE, LabPlan
from systemvm.lab.public_forwarder import CONSOLE, SERVICES, ForwardedService, hosts
from systemvm.lab.public_forwarder import STORAGE as STORAGE_SERVICE
from systemvm.lab.reporting import NullReporter
from systemvm.lab.services import MOUNTD_PORT, NFS_PORT, RPCBIND_PORT

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TOP = Path(__file__).resolve().parents[2]


def plan_in(directory: Path) -> LabPlan:
    return plan_with_free_ports(directory / "root", TOP / "build")


def host_links() -> str:
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def traces(plan: LabPlan) -> list[str]:
    """Return namespaces, processes and mounts of a lab."""
    found = [name for name in plan.namespaces if namespaces.exists(name)]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(argument.startswith(os.fsencode(plan.root) + b"/") for argument in argv):
            found.append(b" ".join(argv).decode())
    mounts = Path("/proc/self/mounts").read_text()
    return found + [line for line in mounts.splitlines() if str(plan.root) in line or plan.tag in line]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(plan_in(tmp_path_factory.mktemp("lab")), system_vms=False)
    with cloud:
        yield cloud


# ---- a running lab --------------------------------------------------------------------------------------


def test_the_page_and_the_api_answer_on_the_hosts_loopback(cloud: Cloud) -> None:
    [zone] = cloud.api.items("listZones", "zone")
    assert zone["name"] == "zone1"


def test_the_daemon_is_in_the_namespace_and_the_host_has_nothing_new(cloud: Cloud) -> None:
    assert cloud.daemon_pid in namespaces.processes(cloud.plan.host_namespace)
    for name in ("cloud0", "cloudbr0", "source0", "nfs0"):
        assert f"{name} " not in host_links()


def test_the_source_serves_https_with_its_own_ca(cloud: Cloud) -> None:
    (cloud.plan.source_pages / "hello.txt").write_text("hello")
    context = ssl.create_default_context(cafile=str(cloud.plan.lab / "source-tls" / "ca.pem"))

    def fetch() -> bytes:
        with socket.create_connection((str(SOURCE.address.ip), 443), 120) as plain:
            with context.wrap_socket(plain, server_hostname=SOURCE_NAME) as connection:
                connection.sendall(f"GET /hello.txt HTTP/1.0\r\nHost: {SOURCE_NAME}\r\n\r\n".encode())
                return b"".join(iter(lambda: connection.recv(4096), b""))

    answer = namespaces.inside(cloud.plan.host_namespace, fetch)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"hello")


def test_dns_resolves_the_source(cloud: Cloud) -> None:
    question = b"".join(bytes([len(label)]) + label.encode() for label in SOURCE_NAME.split(".")) + b"\0"
    query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack(">2H", 1, 1)

    def exchange() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(120)
            channel.sendto(query, (str(SOURCE.address.ip), 53))
            return channel.recv(512)

    assert namespaces.inside(cloud.plan.host_namespace, exchange).endswith(SOURCE.address.ip.packed)


@pytest.mark.parametrize(
    ("port", "program", "version"),
    [(NFS_PORT, 100003, 4), (NFS_PORT, 100003, 3), (MOUNTD_PORT, 100005, 3), (RPCBIND_PORT, 100000, 2)],
    ids=["NFS 4", "NFS 3", "mountd", "rpcbind"],
)
def test_nfs_answers_calls_of_versions_3_and_4(cloud: Cloud, port: int, program: int, version: int) -> None:
    """Call the NULL procedure of each program, which needs no kernel client."""
    call = struct.pack(">10I", 99, 0, 2, program, version, 0, 0, 0, 0, 0)

    def exchange() -> bytes:
        with socket.create_connection((str(STORAGE.address.ip), port), 120) as connection:
            connection.sendall(struct.pack(">I", 0x80000000 | len(call)) + call)
            return connection.recv(4096)

    reply = namespaces.inside(cloud.plan.host_namespace, exchange)
    _, xid, kind, accepted = struct.unpack(">4I", reply[:16])
    assert (xid, kind, accepted) == (99, 1, 0)
    assert struct.unpack(">I", reply[24:28]) == (0,), "SUCCESS"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.vm_type)
def test_a_port_leads_to_its_system_vms_address_of_the_moment(
    cloud: Cloud, service: ForwardedService
) -> None:
    address = {CONSOLE: "203.0.113.150", STORAGE_SERVICE: "203.0.113.151"}[service]
    port = {CONSOLE: cloud.plan.console_port, STORAGE_SERVICE: cloud.plan.storage_port}[service]

    def serve() -> socket.socket:
        run("ip", "-n", cloud.plan.host_namespace, "addr", "add", f"{address}/32", "dev", "lo")
        return socket.create_server((address, service.port))

    with namespaces.inside(cloud.plan.host_namespace, serve) as system_vm:
        cloud.plan.hosts_file.write_text(hosts({service: address}))
        system_vm.settimeout(120)
        with socket.create_connection(("127.0.0.1", port), 120) as browser:
            accepted, peer = system_vm.accept()
            with accepted:
                assert peer[0] in ("203.0.113.1", address)
                browser.sendall(b"knock")
                accepted.settimeout(120)
                assert accepted.recv(5) == b"knock"


def test_only_its_owner_can_read_the_login(cloud: Cloud) -> None:
    kept = cloud.plan.lab / "login.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not cloud.plan.layout.first_login.exists()
    log = cloud.daemon_log.read_text()
    assert "first-login.json" in log
    assert cloud.login.password not in log and cloud.login.secret_key not in log


class RecordingReporter(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def print_line(self, text: str) -> None:
        self.lines.append(text)


def test_missing_samples_do_not_stop_the_cloud_and_are_reported_when_available(cloud: Cloud) -> None:
    """No SSVM runs, so nothing is downloaded, as in a zone whose SSVM is slow."""
    for medium in (samples.TINY, samples.IPXE):
        (cloud.plan.source_pages / medium.file).write_bytes(b"an image")
    reporter = RecordingReporter()
    sample_set = samples.SampleSet(cloud, reporter, late_s=2.0)
    sample_set.create_all()
    assert list(sample_set.missing) == ["iso ipxe", "template tiny", "VM hello (a linked clone)"]
    assert "no progress for" in sample_set.missing["iso ipxe"]
    assert "template tiny is not Ready" in sample_set.missing["VM hello (a linked clone)"]
    url = f"{cloud.plan.source_url}/tiny.qcow2"
    assert sample_set.retry["template tiny"] == f"template register tiny {url}"
    assert cloud.api.items("listTemplates", "template", templatefilter="self", name="tiny")
    sample_set.check_missing()
    assert (reporter.lines, len(sample_set.missing)) == ([], 3)

    with sqlite3.connect(
        cloud.plan.layout.database, timeout=60
    ) as database:  # as the daemon does when it is Ready
        database.execute("UPDATE template_store_refs SET state = 'DOWNLOADED', percent = 100")
    sample_set.check_missing()
    assert reporter.lines == ["iso ipxe is available now", "template tiny is available now"]
    assert list(sample_set.missing) == ["VM hello (a linked clone)"]


# ---- restarts, conflicts and cleanup --------------------------------------------------------------------


def test_a_killed_daemon_is_started_again_on_the_same_port(cloud: Cloud) -> None:
    before = cloud.daemon_pid
    assert not cloud.restart_ended_daemon()
    cloud.stop_daemon(kill=True)
    assert cloud.restart_ended_daemon()
    assert cloud.daemon_pid != before
    assert cloud.api.items("listZones", "zone")


def test_a_second_cloud_with_the_same_root_is_refused_and_does_no_harm(cloud: Cloud) -> None:
    second = Cloud(cloud.plan, system_vms=False)
    with pytest.raises(LabError, match="a cloud already runs"):
        second.start()
    second.stop()
    assert cloud.api.items("listZones", "zone")


def test_another_root_is_another_cloud(cloud: Cloud, tmp_path: Path) -> None:
    with Cloud(plan_in(tmp_path), system_vms=False) as other:
        assert other.login.password != cloud.login.password
        assert other.api.items("listZones", "zone")[0]["id"] != cloud.api.items("listZones", "zone")[0]["id"]
    assert traces(other.plan) == []
    assert cloud.api.items("listZones", "zone")


def test_a_taken_port_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    with socket.create_server(("127.0.0.1", plan.console_port)):
        with pytest.raises(LabError, match=f"127.0.0.1:{plan.console_port}"):
            Cloud(plan, system_vms=False).start()
    assert traces(plan) == []


def test_output_of_a_daemon_that_cannot_start_is_shown_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_in(tmp_path)
    monkeypatch.setattr(
        "systemvm.lab.configuration.write",
        lambda plan, *_, **__: (plan.layout.prepare(), plan.layout.config_file.write_text("nonsense: 1\n")),
    )
    with pytest.raises(LabError, match=r"ended during its start\n(.*\n)*.*nonsense: unknown key"):
        Cloud(plan, system_vms=False).start()
    assert traces(plan) == []


def test_a_second_start_keeps_the_login_and_reset_removes_it(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    with Cloud(plan, system_vms=False) as cloud:
        first = cloud.login
    assert traces(plan) == []
    with Cloud(plan, system_vms=False) as cloud:
        assert cloud.login == first
        assert cloud.api.items("listZones", "zone")
    teardown.reset(plan)
    assert not plan.root.exists()


LAB = """
import sys
from pathlib import Path
from systemvm.lab.cloud import Cloud
from systemvm.lab.plan import LabPlan
root, build, *ports = sys.argv[1:]
Cloud(LabPlan(Path(root), Path(build), *map(int, ports)), system_vms=False).start()
print("up", flush=True)
sys.stdin.read()
"""


def test_down_cleans_up_after_a_killed_lab(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    argv = [
        sys.executable,
        "-c",
        LAB,
        str(plan.root),
        str(plan.build),
        *map(str, plan.ports.values()),
    ]
    lab = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert lab.stdout and lab.stdout.readline() == b"up\n"
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    assert traces(plan), "the lab's children must outlive it for this test"
    teardown.down(plan)
    assert traces(plan) == []
    for port in plan.ports.values():
        socket.create_server(("127.0.0.1", port)).close()
    teardown.down(plan)


def test_down_ends_a_cloud_of_another_process(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    script = LAB.replace("sys.stdin.read()", "")
    reconciler = (
        "import signal\n"
        "def end(*_): raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        + script.replace("Cloud(LabPlan", "cloud = Cloud(LabPlan").replace(".start()\n", "\ncloud.start()\n")
        + "try:\n    signal.pause()\nfinally:\n    cloud.stop()\n"
    )
    argv = [
        sys.executable,
        "-c",
        reconciler,
        str(plan.root),
        str(plan.build),
        *map(str, plan.ports.values()),
    ]
    lab = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert lab.stdout and lab.stdout.readline() == b"up\n"
    teardown.down(plan)
    assert lab.wait(120) == 0, "it ended in order"
    assert traces(plan) == []


def test_nothing_is_left_in_the_hosts_own_directories(cloud: Cloud) -> None:
    for path in ("/run/ganesha", "/var/lib/nfs/ganesha/v4recov", "/etc/netns"):
        assert not Path(path).exists() or not any(Path(path).iterdir()), path
    assert cloud.plan.secondary.exists()
