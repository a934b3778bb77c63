# SPDX-License-Identifier: Apache-2.0
"""Ansible's unchanged collection ngine_io.cloudstack with a daemon: a second run changes nothing.

docs/reference/ansible.md says which of its modules work.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cs import CloudStack

from integration.api_lab import make_ready
from integration.daemon_lab import Host, host
from systemvm.management.first_start import FirstLogin

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1800)]

__all__ = ["host"]  # the fixture

PLAYBOOKS = Path(__file__).with_name("playbooks")
ANSIBLE = Path(__file__).parents[2] / "build/clients/bin/ansible-playbook"
PLAY_S = 900.0
PAGE = Path(__file__).parents[2] / "docs/reference/ansible.md"
_ROW = re.compile(r"^\| (cs_\w+) \| (yes|untested|no) \| ([^|]+) \|", re.MULTILINE)
_CALLED = re.compile(r"""query_api\(\s*["'](\w+)["']""")
_RECAP = re.compile(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)")


@frozen
class Run:
    """The result of a playbook."""

    ok: int
    changed: int
    failed: int
    output: str


@frozen
class Operator:
    """A user with an API key and Ansible."""

    url: str
    login: FirstLogin
    variables: dict[str, str]
    home: Path

    def play(self, name: str) -> Run:
        command: list[str | Path] = [ANSIBLE, "-i", "localhost,", "-c", "local"]
        command += ["-e", json.dumps(self.variables), PLAYBOOKS / name]
        environment = os.environ | {
            "CLOUDSTACK_ENDPOINT": self.url,
            "CLOUDSTACK_KEY": self.login.api_key,
            "CLOUDSTACK_SECRET": self.login.secret_key,
            "CLOUDSTACK_TIMEOUT": "120",
            "ANSIBLE_HOME": str(self.home),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_PYTHON_INTERPRETER": str(ANSIBLE.with_name("python3")),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PLAY_S)
        recap = _RECAP.search(done.stdout)
        assert recap is not None, done.stdout + done.stderr
        ok, changed, failed = map(int, recap.groups())
        return Run(ok, changed, failed, done.stdout)


def make_operator(host: Host, home: Path) -> tuple[Operator, CloudStack]:
    login = FirstLogin.take(host.layout.first_login)
    assert login is not None
    url = f"{host.page}/client/api"
    api = CloudStack(endpoint=url, key=login.api_key, secret=login.secret_key, timeout=120)
    [cluster], [node] = api.listClusters()["cluster"], api.listHosts(type="Routing")["host"]
    variables = {
        "zone": cluster["zonename"],
        "pod": cluster["podname"],
        "cluster": cluster["name"],
        "host": node["name"],
        "shared": str(host.layout.root / "shared"),
    }
    return Operator(url, login, variables, home), api


def make_shared_directories(host: Host) -> None:
    """Make the directories of storage pools, as an operator's mounts are."""
    own = host.layout.primary.stat()
    for name in ("shared", "shared2"):
        directory = host.layout.root / name
        directory.mkdir()
        os.chown(directory, own.st_uid, own.st_gid)
        directory.chmod(stat.S_IMODE(own.st_mode))


def modules() -> dict[str, str]:
    """Return the source of each module of the collection."""
    [folder] = ANSIBLE.parents[1].glob(
        "lib/python3*/site-packages/ansible_collections/ngine_io/cloudstack/plugins/modules"
    )
    return {path.stem: path.read_text() for path in folder.glob("cs_*.py")}


def check_page(api: CloudStack) -> None:
    """Check the page's modules, those of the playbooks, and the commands that are not served."""
    served = {command["name"] for command in api.listApis()["api"]}
    rows = {name: (works, missing) for name, works, missing in _ROW.findall(PAGE.read_text())}
    expected = {
        name: ", ".join(sorted(set(_CALLED.findall(source)) - served, key=str.lower)) or "–"
        for name, source in modules().items()
    }
    assert {name: missing for name, (_, missing) in rows.items()} == expected
    played = {
        name
        for playbook in PLAYBOOKS.glob("*.yml")
        for name in re.findall(r"ngine_io\.cloudstack\.(cs_\w+)", playbook.read_text())
    }
    assert {name for name, (works, _) in rows.items() if works == "yes"} == played


def list_media(api: CloudStack) -> list[tuple[Any, ...]]:
    rows = api.listTemplates(templatefilter="self").get("template", [])
    rows += api.listIsos(isofilter="self").get("iso", [])
    # one of all zones has a row for each
    return sorted({(row["name"], row["id"], row["ostypename"], row["crossZones"]) for row in rows})


@pytest.mark.skipif(not ANSIBLE.exists(), reason="needs Ansible: `make build/clients/stamp`")
def test_a_second_ansible_run_changes_nothing(host: Host, tmp_path: Path) -> None:
    host.start()
    host.both_running()
    operator, api = make_operator(host, tmp_path)
    check_page(api)

    first = operator.play("first.yml")
    assert (first.ok, first.changed, first.failed) == (19, 19, 0), first.output
    media = list_media(api)
    assert [(name, os_type, everywhere) for name, _, os_type, everywhere in media] == [
        ("blank", "Debian GNU/Linux 12 (64-bit)", False),
        ("cd", "Other (64-bit)", False),
        ("everywhere", "Other Linux (64-bit)", True),
    ]
    second = operator.play("first.yml")
    assert (second.ok, second.changed, second.failed) == (19, 0, 0), second.output
    assert list_media(api) == media, "nothing is registered again"
    [locked] = api.listUsers(listall=True, username="eve")["user"]
    assert locked["state"] == "locked"

    blank = next(identity for name, identity, *_ in media if name == "blank")
    make_ready(host, blank)
    with sqlite3.connect(host.layout.database) as connection:
        connection.execute("UPDATE template_store_refs SET virtual_size_bytes = 4194304")

    refused = operator.play("refused.yml")
    assert refused.failed == 1
    assert "deployVirtualMachine does not support the parameter group" in refused.output

    first = operator.play("machine.yml")
    assert (first.changed, first.failed) == (3, 0), first.output
    second = operator.play("machine.yml")
    assert (second.ok, second.changed, second.failed) == (6, 0, 0), second.output

    make_shared_directories(host)
    first = operator.play("storage.yml")
    assert (first.ok, first.changed, first.failed) == (8, 7, 0), first.output
    second = operator.play("storage.yml")
    assert (second.ok, second.changed, second.failed) == (8, 0, 0), second.output
    [pool] = api.listStoragePools(name="shared1")["storagepool"]
    assert (pool["tags"], pool["scope"], pool["state"]) == ("fast", "CLUSTER", "Up")
    [own] = api.listNetworks(keyword="zone1-guest")["network"]
    [guest] = api.listVlanIpRanges(networkid=own["id"])["vlaniprange"]
    assert (guest["startip"], guest["endip"]) == ("10.13.0.50", "10.13.0.59")

    first = operator.play("storage-gone.yml")
    assert (first.changed, first.failed) == (6, 0), first.output
    second = operator.play("storage-gone.yml")
    assert (second.ok, second.changed, second.failed) == (6, 0, 0), second.output
    assert "storagepool" not in api.listStoragePools(keyword="shared")

    first = operator.play("gone.yml")
    assert (first.changed, first.failed) == (7, 0), first.output
    second = operator.play("gone.yml")
    assert (second.ok, second.changed, second.failed) == (7, 0, 0), second.output
    assert list_media(api) == []
    assert api.listVirtualMachines(listall=True) == {}
