# SPDX-License-Identifier: Apache-2.0
"""The units of systemd/host/ on a booted Debian: users, sockets, sandboxes, first login, adoption."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import pytest
import yaml

from matrix import host_guest
from systemvm.management.samples import read_sample
from vlan_probe_facts import EXPECTED

pytestmark = pytest.mark.timeout(4500)

#: A multiboot kernel that only halts: a nested VM without an accelerator has no time for more.
_FLAGS, _MAGIC, _AT = 0x10000, 0x1BADB002, 0x100000
_HEADER = [_MAGIC, _FLAGS, (-_MAGIC - _FLAGS) & 0xFFFFFFFF, _AT, _AT, 0, 0, _AT + 0x20]
IDLE_KERNEL = b"".join(field.to_bytes(4, "little") for field in _HEADER) + bytes.fromhex("f4 ebfd")

OBSERVE = r"""
import glob, http.client, json, os, pathlib, re, socket, subprocess, time, urllib.request

def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    return (done.stdout + done.stderr).strip()

def until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    return None

def machines():
    found = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            argv = open(path).read().split("\0")
            if argv[0].startswith("qemu-system") or "qemu-system" in argv[0]:
                pid = path.split("/")[2]
                owner = run("stat", "-c", "%U", f"/proc/{pid}")
                status = dict(l.split(":\t", 1) for l in open(f"/proc/{pid}/status").read().splitlines())
                name = argv[argv.index("-name") + 1].split(",")[0]
                found[name] = [int(pid), owner, status["CapEff"], status["NoNewPrivs"], status["Seccomp"]]
        except OSError:
            pass
    return found

def page():
    try:
        with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=1200) as response:
            return response.status
    except OSError as error:
        return str(error)

def api(method, **params):
    connection = http.client.HTTPConnection("localhost", timeout=1200)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/systemvm/managementd.sock")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", "/rpc", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    return answer.get("result", answer)

def finished(job):
    ended = lambda: (found := api("queryAsyncJobResult", jobid=job["jobid"]))["jobstatus"] and found
    return until(ended, 1200)

def nfs_pool():
    '''Make a pool on the NFS server of this very kernel, and observe who sees its mount.'''
    os.makedirs("/srv/pool")
    with open("/etc/exports", "w") as exports:
        exports.write("/srv/pool 127.0.0.1(rw,no_root_squash,no_subtree_check,fsid=1)\n")
    found = {"export": run("exportfs", "-ra")}
    zone = api("listZones")["zone"][0]["id"]
    found["wrong"] = api("createStoragePool", name="wrong", zoneid=zone, url="nfs://127.0.0.1/srv/other")
    made = api("createStoragePool", name="nfs", zoneid=zone, url="nfs://127.0.0.1/srv/pool")
    if "storagepool" not in made:
        return found | {"made": made}
    pool = made["storagepool"]["id"]
    directory = f"/var/lib/systemvm-pools/{pool}"
    found["made"] = "made"
    found["mount"] = run("findmnt", "-n", "-o", "FSTYPE,SOURCE", directory)
    found["options"] = run("findmnt", "-n", "-o", "VFS-OPTIONS,FS-OPTIONS", directory)
    found["modes"] = run("stat", "-c", "%A %U %G", directory)
    volume = finished(api("createVolume", name="disk", size=1, storageid=pool))["jobresult"]["volume"]["id"]
    found["files"] = sorted(os.listdir("/srv/pool/volumes")) == [f"{volume}.qcow2"]
    launcher = run("systemctl", "show", "-P", "MainPID", "systemvm-launcher.service")
    disk = f"{directory}/volumes/{volume}.qcow2"
    found["launcher"] = run("nsenter", "-t", launcher, "-m", "--", "runuser", "-u", "systemvm-qemu", "--",
                            "qemu-io", "-c", "write 0 4k", disk)
    with open(disk):
        api("deleteVolume", id=volume)
        found["in_use"] = api("deleteStoragePool", id=pool)
    found["deleted"] = api("deleteStoragePool", id=pool)
    found["left"] = [run("findmnt", "-n", directory), os.path.exists(directory)]
    return found

def upgrade(services):
    '''Install a next release as install.sh does: its files at once, then its end, which restarts helpers.'''
    old, new = pathlib.Path("/usr/lib/systemvm"), pathlib.Path("/usr/lib/systemvm.new")
    run("cp", "-al", str(old), str(new))
    [metadata] = new.glob("agents/systemvm-*.dist-info/METADATA")
    text = re.sub("(?m)^Version: .*", "Version: 9.9", metadata.read_text())
    metadata.unlink()  # it is the old release's file, too
    metadata.write_text(text)
    old.rename("/usr/lib/systemvm.old")
    new.rename(old)
    pids = lambda: {unit: run("systemctl", "show", "-P", "MainPID", unit) for unit in services}
    before = pids()
    script = (old / "install.sh").read_text()
    end = script.partition('echo "install: done below $root"')[2].partition("fi\n")[2]
    done = subprocess.run(["bash", "-euc", "root=; " + end], capture_output=True, text=True, timeout=1200)
    found = {"code": done.returncode, "output": done.stdout + done.stderr, "before": before, "after": pids()}
    return found | {"active": [unit for unit in services if run("systemctl", "is-active", unit) == "active"]}

observed = {}
active = lambda: run("systemctl", "is-active", "systemvm-managementd.service") == "active"
until(active, 1200)
units = ["systemvm-managementd.service", "systemvm-nethelper.service", "systemvm-launcher.service",
         "systemvm-mounthelper.service", "systemvm-managementd.socket", "systemvm-nethelper.socket",
         "systemvm-launcher.socket", "systemvm-mounthelper.socket", "systemvm-guestnet.socket"]
observed["machines"] = until(lambda: (found := machines()) and len(found) == 2 and found, 1200)
try:
    observed["nfs"] = nfs_pool()
except Exception as error:  # the other observations are made nevertheless
    observed["nfs"] = {"made": repr(error)}
observed["active"] = {unit: run("systemctl", "is-active", unit) for unit in units}
observed["page"] = page()
services = [unit for unit in units if unit.endswith(".service")]
pids = {unit: run("systemctl", "show", "-P", "MainPID", unit) for unit in services}
observed["status"] = {
    unit: dict(l.split(":\t", 1) for l in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in l)
    if pid not in ("", "0") else {} for unit, pid in pids.items()
}
observed["users"] = {unit: run("ps", "-o", "user:32=", "-p", pid) for unit, pid in pids.items()}
analyze = lambda unit: run("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
observed["security"] = {unit: analyze(unit) for unit in services}
observed["journal"] = run("journalctl", "-o", "cat", "--no-pager", "-u", "systemvm-managementd.service")
observed["other_journals"] = run("journalctl", "-o", "cat", "--no-pager", "-u", "systemvm-nethelper.service",
                             "-u", "systemvm-launcher.service")
observed["modes"] = {path: run("stat", "-c", "%A %U %G", path) for path in (
    "/run/systemvm/network.sock", "/run/systemvm/launcher.sock", "/run/systemvm/mount.sock",
    "/run/systemvm/managementd.sock", "/var/lib/systemvm-pools",
    "/var/lib/systemvm/pki", "/var/lib/systemvm/first-login.json", "/var/lib/systemvm/primary",
    "/etc/systemvm", "/etc/systemvm/managementd.yaml", "/run/systemvm/qemu")}
as_user = lambda user, *command: run("runuser", "-u", user, "--", *command)
observed["as_qemu"] = {
    "keys": as_user("systemvm-qemu", "ls", "/var/lib/systemvm/pki"),
    "database": as_user("systemvm-qemu", "cat", "/var/lib/systemvm/systemvm.sqlite"),
    "disks": as_user("systemvm-qemu", "ls", "/var/lib/systemvm/primary/volumes"),
    "network": as_user("systemvm-qemu", "python3", "-c",
        "from socket import *; socket(AF_UNIX, SOCK_SEQPACKET).connect('/run/systemvm/network.sock')"),
}
observed["as_daemon"] = {
    "link": as_user("systemvm", "ip", "link", "del", "cloud0"),
    "etc": as_user("systemvm", "touch", "/etc/systemvm/zones/mine.yaml"),
}
observed["ports"] = json.loads(run("ip", "-d", "-j", "link", "show", "type", "tun") or "[]")
imports = "PYTHONPATH=/usr/lib/systemvm/agents:/usr/lib/systemvm/packages"
observed["vlans"] = run("unshare", "--net", "env", imports, "python3", "/usr/lib/systemvm/vlan_probe.py")
numbers = lambda: {name: found[0] for name, found in machines().items()}
before = numbers()
observed["upgrade"] = upgrade(services)
observed["survived_upgrade"] = [before, numbers()]
observed["running_version"] = api("listCapabilities")["capability"]["systemvmversion"]
main = lambda: run("systemctl", "show", "-P", "MainPID", "systemvm-managementd.service")
killed = main()
lost = "/var/lib/systemvm-pools/0f9d3c52-7a54-4f0b-8a86-1d1f3b0f2c11"  # as of a creation that was killed
os.makedirs(lost)
observed["lost"] = run("mount", "-t", "nfs", "-o", "vers=4", "127.0.0.1:/srv/pool", lost)
run("systemctl", "kill", "-s", "KILL", "systemvm-managementd.service")
until(lambda: main() not in ("0", killed) and active(), 1200)
observed["unmounted"] = until(lambda: not os.path.exists(lost), 1200)
observed["survived"] = [before, numbers()]
observed["version"] = api("listCapabilities")["capability"]["systemvmversion"]
observed["journal_again"] = run("journalctl", "-o", "cat", "--no-pager", "-u", "systemvm-managementd.service")
observed["page_again"] = page()
observed["failed"] = run("systemctl", "--failed", "--plain", "--no-legend")
with open("/dev/ttyS1", "w") as port:
    port.write(json.dumps(observed))
"""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("host")
    images = work / "images"
    images.mkdir()
    for role in ("ssvm", "cpvm"):
        files = {f"{role}.vmlinuz": IDLE_KERNEL, f"{role}.initrd": b"nothing"}
        for name, data in files.items():
            (images / name).write_bytes(data)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", images / f"{role}.qcow2", "1M"],
            check=True,
            timeout=30,
        )
        names = [*files, f"{role}.qcow2"]
        manifest = {
            "role": role, "version": "0.0.1", "arch": "amd64", "disk": f"{role}.qcow2",
            "kernel": f"{role}.vmlinuz", "initrd": f"{role}.initrd", "append": "none",
            "sha256": {name: hashlib.sha256((images / name).read_bytes()).hexdigest() for name in names},
            "root_sha256": "",
        }  # fmt: skip
        (images / f"{role}.manifest.json").write_text(json.dumps(manifest))
    zone = yaml.safe_load(read_sample("zone.yaml"))
    zone["system_vms"] = {role: {"memory_mib": 32} for role in ("ssvm", "cpvm")}
    return host_guest.boot(work, OBSERVE, yaml.safe_dump(zone), images)


def test_units_are_active_and_none_failed(observed: dict[str, Any]) -> None:
    assert set(observed["active"].values()) == {"active"}, observed["active"]
    assert observed["failed"] == ""
    assert observed["page"] == 200


def test_each_program_has_its_own_user_and_minimal_capabilities(observed: dict[str, Any]) -> None:
    assert observed["users"] == {
        "systemvm-managementd.service": "systemvm",
        "systemvm-nethelper.service": "systemvm-net",
        "systemvm-launcher.service": "systemvm-qemu",
        "systemvm-mounthelper.service": "root",
    }
    capabilities = {unit: int(status["CapBnd"], 16) for unit, status in observed["status"].items()}
    assert capabilities == {
        "systemvm-managementd.service": 0,
        "systemvm-nethelper.service": 1 << 12,  # CAP_NET_ADMIN
        "systemvm-launcher.service": 0,
        # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN
        "systemvm-mounthelper.service": 1 << 0 | 1 << 1 | 1 << 3 | 1 << 10 | 1 << 21,
    }
    for status in observed["status"].values():
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"


def test_qemu_runs_as_its_own_user_in_its_sandbox(observed: dict[str, Any]) -> None:
    assert sorted(observed["machines"]) == ["s-1-VM", "v-2-VM"]
    for _, owner, capabilities, no_new_privileges, seccomp in observed["machines"].values():
        assert (owner, int(capabilities, 16), no_new_privileges, seccomp) == ("systemvm-qemu", 0, "1", "2")


def test_files_and_sockets_have_their_owners(observed: dict[str, Any]) -> None:
    assert observed["modes"] == {
        "/run/systemvm/network.sock": "srw------- systemvm systemvm",
        "/run/systemvm/launcher.sock": "srw------- systemvm systemvm",
        "/run/systemvm/mount.sock": "srw------- systemvm systemvm",
        "/var/lib/systemvm-pools": "drwxr-xr-x root root",
        "/run/systemvm/managementd.sock": "srw-rw---- systemvm systemvm",
        "/var/lib/systemvm/pki": "drwx------ systemvm systemvm",
        "/var/lib/systemvm/first-login.json": "-rw------- systemvm systemvm",
        "/var/lib/systemvm/primary": "drwxr-s--- systemvm systemvm-qemu",
        "/etc/systemvm": "drwxr-xr-x root root",
        "/etc/systemvm/managementd.yaml": "-rw-r--r-- root root",
        "/run/systemvm/qemu": "drwxr-s--- systemvm systemvm-qemu",
    }


def test_an_nfs_pool_is_mounted_for_daemon_and_qemu_and_unmounted_with_it(observed: dict[str, Any]) -> None:
    found = observed["nfs"]
    assert found["made"] == "made", found
    assert found["mount"].split() == ["nfs4", "127.0.0.1:/srv/pool"]
    assert {"hard", "nosuid", "nodev", "noexec"} <= set(found["options"].replace(" ", ",").split(","))
    assert found["modes"] == "drwxr-s--- systemvm systemvm-qemu"
    assert found["files"]
    assert found["launcher"].startswith("wrote 4096/4096 bytes")
    assert found["deleted"] == {"success": True}, found
    assert found["left"] == ["", False]


def test_what_is_mounted_for_no_pool_is_unmounted_when_the_daemon_starts(observed: dict[str, Any]) -> None:
    assert (observed["lost"], observed["unmounted"]) == ("", True)


def test_a_wrong_export_and_a_mount_in_use_are_refused_with_their_reason(observed: dict[str, Any]) -> None:
    found = observed["nfs"]
    assert found["made"] == "made", found
    wrong, in_use = found["wrong"]["error"], found["in_use"]["error"]
    assert wrong["data"]["reason"] == "resource_unavailable", wrong
    assert "127.0.0.1:/srv/other: the server does not export this path to this host" in wrong["message"]
    assert in_use["data"]["reason"] == "resource_in_use", in_use
    assert "127.0.0.1:/srv/pool: something uses it" in in_use["message"]


def test_qemus_user_reaches_only_disks(observed: dict[str, Any]) -> None:
    attempts = observed["as_qemu"]
    for resource in ("keys", "database", "network"):
        assert "Permission denied" in attempts[resource], attempts
    assert ".qcow2" in attempts["disks"]


def test_the_daemons_user_cannot_change_networks_or_the_allow_list(observed: dict[str, Any]) -> None:
    assert "Operation not permitted" in observed["as_daemon"]["link"]
    assert "Permission denied" in observed["as_daemon"]["etc"]


def test_debians_kernel_keeps_vlans_apart(observed: dict[str, Any]) -> None:
    assert json.loads(observed["vlans"]) == EXPECTED


def test_control_ports_are_isolated(observed: dict[str, Any]) -> None:
    isolated = [
        link["linkinfo"]["info_slave_data"]["isolated"]
        for link in observed["ports"]
        if link["master"] == "cloud0"
    ]
    assert isolated == [True, True]


def test_the_first_login_is_in_the_journal_once(observed: dict[str, Any]) -> None:
    assert "  login       admin / " in observed["journal"]
    assert "  API key     " in observed["journal"]
    assert "http://127.0.0.1:8080" in observed["journal"]
    assert observed["journal_again"].count("  login       admin / ") == 1


def test_vms_survive_daemon_launcher_and_network_helper(observed: dict[str, Any]) -> None:
    before, after = observed["survived"]
    assert len(before) == 2
    assert before == after
    assert observed["page_again"] == 200
    assert "adopted, pid" in observed["journal_again"]


def test_an_upgrade_restarts_helpers_and_neither_the_daemon_nor_vms(observed: dict[str, Any]) -> None:
    upgrade = observed["upgrade"]
    assert upgrade["code"] == 0, upgrade["output"]
    assert "systemvm, version 9.9\n" in upgrade["output"]
    assert "restart the daemon to run this release" in upgrade["output"]
    same = {unit for unit, pid in upgrade["before"].items() if upgrade["after"][unit] == pid}
    assert same == {"systemvm-managementd.service"}
    assert sorted(upgrade["active"]) == sorted(upgrade["before"])
    before, after = observed["survived_upgrade"]
    assert before == after and len(before) == 2
    assert observed["running_version"] != "9.9", "the daemon that still runs is of the release before"
    assert observed["version"] == "9.9"


def test_systemd_rates_each_service_well_protected(observed: dict[str, Any]) -> None:
    exposure = {unit: float(line.split(": ")[1].split()[0]) for unit, line in observed["security"].items()}
    assert exposure["systemvm-managementd.service"] <= 2.0
    # it needs CAP_NET_ADMIN, /proc/sys/net and netlink
    assert exposure["systemvm-nethelper.service"] <= 2.5
    # QEMU translates code: memory that is written and executed
    assert exposure["systemvm-launcher.service"] <= 2.5
