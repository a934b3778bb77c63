# SPDX-License-Identifier: Apache-2.0
"""The management daemon as a process: restarts, operators' methods, certificates and configuration errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integration.daemon_lab import CALL_S, LONGEST_READ_S, MANAGEMENT_ADDRESS, Host, host, until
from promtool import MISSING, PROMTOOL, exposed, expressions, promtool, unknown
from public_pki import DOMAIN, INTERMEDIATE, ROOT, WILDCARD, server
from systemvm.management.first_start import FirstLogin
from systemvm.management.metrics.agents import KNOWN
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix import unix_call, unix_events
from systemvm.service.slowness import scaled_s

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

__all__ = ["host"]  # the fixture


def test_machines_outlive_the_daemon_however_it_ends(host: Host) -> None:
    # a script that runs `make test &` passes an ignored SIGINT on; SIGINT must end a daemon nevertheless
    before_this = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _machines_outlive(host)
    finally:
        signal.signal(signal.SIGINT, before_this)


def _machines_outlive(host: Host) -> None:
    host.start()
    before = host.both_running()
    assert sorted(before) == ["s-1-VM", "v-2-VM"]
    for how, code in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)):
        assert host.end(how) == code
        assert host.pids() == before
        host.start()
        assert host.both_running() == before
        agent = host.machines()["s-1-VM"]
        assert agent["agentstate"] == "Disconnected"
        assert "restarted" in agent["reason"]
    assert "Traceback" not in host.log.read_text()


def test_a_killed_machine_is_started_again(host: Host) -> None:
    host.start()
    before = host.both_running()
    os.kill(before["s-1-VM"], signal.SIGKILL)
    until(lambda: host.pids().get("s-1-VM", before["s-1-VM"]) != before["s-1-VM"], "new process")
    assert host.both_running()["v-2-VM"] == before["v-2-VM"]


def test_stop_reboot_and_destroy_commands(host: Host) -> None:
    host.start()
    before = host.both_running()
    ssvm, cpvm = host.machines()["s-1-VM"], host.machines()["v-2-VM"]

    job = host.call("rebootSystemVm", id=cpvm["id"], forced=True)["jobid"]
    news = list(unix_events(str(host.layout.socket), job))
    assert news[-1]["jobstatus"] == 1
    assert news[-1]["result"]["systemvm"]["publicip"] == cpvm["publicip"]
    assert host.pids()["v-2-VM"] != before["v-2-VM"]

    job = host.call("destroySystemVm", id=ssvm["id"])["jobid"]
    until(lambda: host.call("queryAsyncJobResult", jobid=job)["jobstatus"] == 1, "end of the job")
    assert set(until(lambda: len(names := host.both_running()) == 2 and names, "successor")) == {
        "s-3-VM",
        "v-2-VM",
    }

    job = host.call("stopSystemVm", id=cpvm["id"], forced=True)["jobid"]
    until(lambda: host.call("queryAsyncJobResult", jobid=job)["jobstatus"] == 1, "end of the job")
    assert "v-2-VM" in host.both_running()  # the zone needs one


def test_the_page_and_the_first_login(host: Host) -> None:
    host.start()
    with urllib.request.urlopen(host.page, timeout=240) as answer:
        assert b"<html" in answer.read().lower()
    assert host.layout.first_login.stat().st_mode & 0o777 == 0o600
    login = FirstLogin.take(host.layout.first_login)
    assert login is not None
    body = f"command=login&username={login.username}&password={login.password}&response=json".encode()
    with urllib.request.urlopen(f"{host.page}/client/api", body, timeout=240) as answer:
        assert json.load(answer)["loginresponse"]["username"] == "admin"
    assert login.password not in host.log.read_text()
    host.end(signal.SIGTERM)
    host.start()
    assert not host.layout.first_login.exists()
    with urllib.request.urlopen(f"{host.page}/client/api", body, timeout=240) as answer:
        assert answer.status == 200


def test_metrics_are_for_the_management_network(host: Host) -> None:
    host.start()
    host.both_running()
    with neighbour(host.namespace, "cloudbr1", "10.11.0.250/24") as management:
        wanted = (
            'systemvm_jobs{status="pending"}',
            'systemvm_agent_scraped{role="ssvm",system_vm="s-1-VM"} 0.0',
            'systemvm_system_vms{agent_state="Connecting",role="cpvm",state="Running"} 1.0',
        )

        def is_shown() -> bool:
            shown = scrape(management)
            return all(metric in shown for metric in wanted)

        until(is_shown, "metrics of jobs, and of both system VMs, that run without an agent")
        shown = scrape(management)
    names = exposed(shown) | KNOWN.keys()
    unknowns = {name: unknown(expression, names) for name, expression in expressions().items()}
    assert {name for name, found in unknowns.items() if found} == set(), "alerts and panels read these"
    with neighbour(host.namespace, "cloudbr0", "203.0.113.250/24", via="203.0.113.1") as public:
        assert scrape(public) == ""
    if PROMTOOL is None:
        pytest.skip(MISSING)
    promtool("check", "metrics", given=shown)


@contextmanager
def neighbour(of: str, bridge: str, address: str, via: str = "") -> Iterator[str]:
    """Make a namespace that is connected to a bridge of another one."""
    name = f"{of}-peer"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=60)

    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "add", "net", "type", "veth", "peer", "name", "probe", "netns", of)
        ip("-n", of, "link", "set", "probe", "master", bridge, "up")
        ip("-n", name, "link", "set", "net", "up")
        ip("-n", name, "address", "add", address, "dev", "net")
        if via:
            ip("-n", name, "route", "add", "default", "via", via)
        yield name
    finally:
        ip("netns", "delete", name)


def scrape(namespace: str) -> str:
    url = f"http://{MANAGEMENT_ADDRESS}:9595/metrics"
    limits = ["--connect-timeout", f"{scaled_s(5.0)}", "--max-time", f"{scaled_s(60.0)}"]
    argv = ["ip", "netns", "exec", namespace, "curl", "--silent", *limits, url]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1800).stdout


@pytest.mark.timeout(180 + LONGEST_READ_S)
def test_operators_methods(host: Host) -> None:
    host.start()
    host.both_running()
    # no host key is known: the machine has neither an agent nor a guest agent
    with pytest.raises(RpcError, match="s-1-VM has no known ssh host keys"):
        unix_call(
            str(host.layout.socket), "system_vm.ssh", {"name": "s-1-vm"}, timeout_s=CALL_S + LONGEST_READ_S
        )
    with pytest.raises(RpcError, match="agent of v-2-VM is Connecting"):
        host.call("system_vm.check", name="v-2-VM")
    with pytest.raises(RpcError, match="no system VM named s-9-VM"):
        host.call("system_vm.rpc", name="s-9-VM", method="ping", params={})
    assert host.call("system_vm.serial", name="v-2-VM")["path"].endswith("v-2-VM.log")
    methods = {method["name"] for method in host.call("rpc.discover")["methods"]}
    assert {"listSystemVms", "registerTemplate", "system_vm.rpc", "system_vm.ssh"} <= methods


def test_certificates_and_the_control_ca_over_the_socket_and_the_api(host: Host) -> None:
    host.start()
    host.both_running()

    def listed(name: str | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = host.call("certificate.list", **({"name": name} if name else {}))[
            "certificates"
        ]
        return rows

    until(lambda: len(listed()) >= 3, "certificates of the daemon and two starts")
    assert {row["kind"] for row in listed()} == {"daemon", "bootstrap"}
    [of_ssvm] = listed("s-1-VM")
    assert host.call("listCAProviders")["caprovider"][0]["name"] == "root"
    assert host.call("listCaCertificate")["cacertificates"]["certificate"].count("BEGIN") == 1
    job = host.call("revokeCertificate", serial=of_ssvm["serial"], cn="s-1-VM")["jobid"]
    until(lambda: host.call("queryAsyncJobResult", jobid=job)["jobstatus"] == 1, "end of the job")
    [of_ssvm] = listed("s-1-VM")
    assert of_ssvm["revoked"]
    ssvm = host.machines()["s-1-VM"]
    job = host.call("provisionCertificate", hostid=ssvm["id"])["jobid"]
    failed = until(
        lambda: (row := host.call("queryAsyncJobResult", jobid=job))["jobstatus"] == 2 and row, "end"
    )
    assert "agent of s-1-VM is Connecting" in failed["jobresult"]["errortext"]

    leaf = server()
    given = {"certificate": leaf.pem + INTERMEDIATE.pem + ROOT.pem, "privatekey": leaf.key_pem}
    job = host.call("uploadCustomCertificate", domainsuffix=DOMAIN, **given)["jobid"]
    until(lambda: host.call("queryAsyncJobResult", jobid=job)["jobstatus"] == 1, "end of the upload")
    assert "PRIVATE" not in host.log.read_text()

    assert host.call("ca.rotate_control")["phase"] == "introduced"
    waits = ["s-1-VM: it is not connected", "v-2-VM: it is not connected"]
    until(lambda: host.call("ca.control")["waits_for"] == waits, "rotation that waits for both agents")
    host.end(signal.SIGKILL)
    host.start()
    assert host.call("ca.control")["phase"] == "introduced", "the rotation did not outlive a restart"
    assert host.call("listCaCertificate")["cacertificates"]["certificate"].count("BEGIN") == 2
    assert listed("s-1-VM")[-1]["revoked"] == of_ssvm["revoked"]
    [custom] = host.call("listCustomCertificates")["customcertificate"]
    assert (custom["domainsuffix"], custom["names"]) == (DOMAIN, [WILDCARD])


def test_configuration_errors_are_reported_before_anything_runs(host: Host) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            host.command(*arguments),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    assert run("--check-config").returncode == 0
    host.start()
    second = run()
    assert second.returncode == 2
    assert "another management daemon runs with this root" in second.stderr
    host.end(signal.SIGTERM)
    host.layout.config_file.write_text("pgae: {}\n")
    for arguments in ((), ("--check-config",)):
        wrong = run(*arguments)
        assert wrong.returncode == 2
        assert "managementd.yaml:1: pgae: unknown key; did you mean page?" in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_a_fresh_host_gets_samples_that_the_next_start_runs_with(host: Host) -> None:
    shutil.rmtree(host.layout.etc)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            host.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    checked = run("--check-config")
    assert checked.returncode == 0
    assert f"{host.layout.config_file} does not exist" in checked.stdout
    assert "there is no zone" in checked.stdout
    assert not host.layout.etc.exists()
    subprocess.run([*host.root_command, "--prepare"], check=True, timeout=60)
    first = run()
    assert first.returncode == 2  # the unit does not restart after this exit code
    assert "begin with a copy of zone.yaml.sample" in first.stdout
    assert "Traceback" not in first.stdout
    assert host.layout.config_file.exists()
    (host.layout.zones / "zone.yaml.sample").rename(host.layout.zones / "zone1.yaml")
    host.start()
    assert host.end(signal.SIGTERM) == 0
    assert "Traceback" not in host.log.read_text()


def test_root_is_refused(host: Host) -> None:
    done = subprocess.run(host.root_command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "must not run as root" in done.stderr


def test_a_host_without_images_is_reported_in_the_list(host: Host) -> None:
    for manifest in (host.layout.root / "images").glob("*.json"):
        manifest.unlink()
    host.start()
    vm = until(lambda: [vm for vm in host.machines().values() if vm.get("reason")], "reason")[0]
    assert vm["state"] == "Stopped"
    assert "manifest.json does not exist" in vm["reason"]
    assert "make images" in vm["hint"]


def test_a_stop_during_a_start_is_orderly(host: Host) -> None:
    host.start()
    assert host.end(signal.SIGTERM) == 0  # READY=1 is sent before any machine runs
    assert "Traceback" not in host.log.read_text()
    host.start()
    assert sorted(host.both_running()) == ["s-1-VM", "v-2-VM"]
