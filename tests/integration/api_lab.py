# SPDX-License-Identifier: Apache-2.0
"""Users' VMs through the API of a real daemon: templates that are ready, deployments and their processes."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cs import CloudStack

from integration.daemon_lab import Host
from systemvm.management.first_start import FirstLogin


def api_of(host: Host) -> Callable[[], CloudStack]:
    login = FirstLogin.take(host.layout.first_login)
    assert login is not None
    return lambda: CloudStack(
        endpoint=f"{host.page}/client/api",
        key=login.api_key,
        secret=login.secret_key,
        timeout=120,
        poll_interval=0.05,
        fetch_result=True,
    )


def make_ready(host: Host, template_id: str) -> Path:
    """Write a template to the store and set its row to downloaded, as an SSVM and the daemon do.

    Return the path of its file.
    """
    with sqlite3.connect(host.layout.database, timeout=60) as connection:
        [(number, account)] = connection.execute(
            "SELECT id, account_id FROM templates WHERE uuid = ?", (template_id,)
        )
        path = f"template/tmpl/{account}/{number}/disk.qcow2"
        connection.execute(
            "UPDATE template_store_refs SET state = 'DOWNLOADED', percent = 100, install_path = ?"
            " WHERE template_id = ?",
            (path, number),
        )
    file = host.layout.root / "store" / path
    file.parent.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "4M"], check=True, timeout=120)
    return file


def deployment(host: Host, api: CloudStack) -> dict[str, str]:
    zone = api.listZones()["zone"][0]["id"]
    tiny = api.listServiceOfferings(name="tiny")["serviceoffering"][0]["id"]
    template = api.registerTemplate(
        name="blank",
        url="http://images.example.test/blank.qcow2",
        format="QCOW2",
        hypervisor="KVM",
        zoneid=zone,
    )["template"][0]["id"]
    make_ready(host, template)
    return {"zoneid": zone, "templateid": template, "serviceofferingid": tiny}


def machine(api: CloudStack, name: str) -> dict[str, Any]:
    [found] = api.listVirtualMachines(name=name, listall=True)["virtualmachine"]
    return dict(found)


def open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(link.readlink()))
    return found
