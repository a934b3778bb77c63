# SPDX-License-Identifier: Apache-2.0
"""The download flow: a URL becomes a Ready template on NFS, or an error without leftover files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_cloud import BootedCloud, wait_for
from hostile_server import HostileServer
from systemvm.lab.plan import SOURCE_NAME

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def hostile(cloud: BootedCloud) -> Iterator[HostileServer]:
    with HostileServer(cloud.lab) as server:
        yield server


@pytest.fixture(autouse=True)
def no_leftover_templates(cloud: BootedCloud) -> Iterator[None]:
    """Delete the templates that a test leaves, so that each test starts with the same store."""
    before = cloud.templates()
    yield
    for template_id, is_iso in cloud.templates().items():
        if template_id not in before:
            cloud.delete_template(template_id, iso=is_iso)


def properties(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_registered_url_becomes_a_ready_template(cloud: BootedCloud) -> None:
    source = cloud.tiny_image
    checksum = f"{{SHA-256}}{sha256(source)}"
    row = cloud.register("flow-qcow2", f"{cloud.plan.source_url}/tiny.qcow2", checksum=checksum)
    assert row["isready"] is False
    statuses = set()

    def ready() -> bool:
        now = cloud.template(row["id"])
        assert now is not None
        statuses.add(now.get("status"))
        return bool(now["isready"])

    wait_for("the template to be Ready", ready, every_s=0.2)
    done = cloud.template(row["id"])
    assert done is not None
    assert done["status"] == "Download Complete"
    assert done["downloaddetails"][0]["downloadPercent"] in (100, "100")
    assert done["checksum"] == sha256(source)
    assert done["physicalsize"] == source.stat().st_size
    places = [Path(name) for name in cloud.store_files() if name.endswith("template.properties")]
    all_properties = [
        properties(cloud.plan.secondary / place) | {"place": str(place.parent)} for place in places
    ]
    mine = next(each for each in all_properties if each["description"] == "flow-qcow2")
    stored = cloud.plan.secondary / mine["place"] / mine["filename"]
    assert sha256(stored) == sha256(source)
    assert mine["qcow2"] == "true"
    assert int(mine["virtualsize"]) == done["size"]
    assert mine["place"].startswith("template/tmpl/")


def test_a_registered_iso_has_cloudstacks_status_texts(cloud: BootedCloud) -> None:
    row = cloud.register("flow-iso", f"{cloud.plan.source_url}/ipxe.iso", "ISO")
    done = cloud.wait_settled(row["id"])
    assert done["isready"]
    assert done["status"] == "Successfully Installed"


def test_deleting_a_template_removes_its_files(cloud: BootedCloud) -> None:
    before = cloud.store_files()
    row = cloud.register("flow-delete", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    assert cloud.store_files() > before
    cloud.delete_template(row["id"])
    assert cloud.template(row["id"]) is None
    assert cloud.store_files() == before


BAD = [
    ("wrong checksum", "{source}/tiny.qcow2", "{{SHA-256}}" + "0" * 64, r"checksum .* didn't match"),
    ("404", "{source}/nothing-here.qcow2", None, r"404"),
    ("refused connection", "https://{source_host}:8444/tiny.qcow2", None, r"refused"),
    ("truncated body", "{hostile}/truncated.qcow2", None, r"(?i)truncat|ended|closed|fewer"),
    ("wrong length", "{hostile}/longer.qcow2", None, r"(?i)length|more|fewer|ended|truncat|closed"),
    ("backing file", "{hostile}/backing.qcow2", None, r"(?i)backing file"),
    ("not an image", "{hostile}/page.qcow2", None, r"(?i)qcow2"),
    ("loopback", "http://127.0.0.1:8080/x.qcow2", None, r"(?i)not allowed|refus|loopback|denied"),
    ("link-local", "http://169.254.0.1:8250/x.qcow2", None, r"(?i)not allowed|refus|link-local|denied"),
    ("management", "http://10.11.0.1/x.qcow2", None, r"(?i)not allowed|refus|management|denied"),
    ("storage", "http://10.12.0.2:2049/x.qcow2", None, r"(?i)not allowed|refus|storage|denied"),
    ("redirect to loopback", "{hostile}/to-loopback.qcow2", None, r"(?i)not allowed|refus|loopback|denied"),
    ("redirect to storage", "{hostile}/to-storage.qcow2", None, r"(?i)not allowed|refus|storage|denied"),
]


@pytest.mark.parametrize(("case", "url", "checksum", "text"), BAD, ids=[case[0] for case in BAD])
def test_an_unusable_source_is_an_error_without_leftover_files(
    cloud: BootedCloud, hostile: HostileServer, case: str, url: str, checksum: str | None, text: str
) -> None:
    before = cloud.store_files()
    source = url.format(source=cloud.plan.source_url, source_host=SOURCE_NAME, hostile=hostile.url)
    more = {"checksum": checksum.replace("{{", "{").replace("}}", "}")} if checksum else {}
    try:
        row = cloud.register(f"bad {case}", source, **more)
    except Exception as rejection:  # the API can reject an address at once: cs raises CloudStack's error body
        assert re.search(text, str(rejection)), str(rejection)
        assert "errortext" in str(rejection) or "HTTP" in str(rejection)
        return
    done = cloud.wait_settled(row["id"])
    assert not done["isready"]
    assert re.search(text, done["status"]), done["status"]
    assert cloud.store_files() == before, "files are left on the store"
    assert cloud.system_vm("secondarystoragevm")["agentstate"] == "Up"
    cloud.delete_template(row["id"])


def test_a_full_store_is_an_error_without_leftover_files(cloud: BootedCloud, hostile: HostileServer) -> None:
    before = cloud.store_files()
    row = cloud.register("bad full disk", f"{hostile.url}/huge.raw", "RAW")
    done = cloud.wait_settled(row["id"])
    assert not done["isready"]
    assert "space" in done["status"] or "full" in done["status"], done["status"]
    assert cloud.store_files() == before
    assert cloud.system_vm("secondarystoragevm")["agentstate"] == "Up"
    cloud.delete_template(row["id"])


def test_killed_movers_end_the_job_but_not_the_agent(cloud: BootedCloud, hostile: HostileServer) -> None:
    """After kill -9 of fetch and its movers the template settles, and the next download works."""
    name = cloud.system_vm("secondarystoragevm")["name"]
    row = cloud.register("slow", f"{hostile.url}/slow.raw", "RAW")
    wait_for(
        "progress of the download",
        lambda: any(
            detail["downloadState"] == "DOWNLOAD_IN_PROGRESS"
            for detail in (cloud.template(row["id"]) or {}).get("downloaddetails", [])
        ),
    )
    cloud.ssh(name, "systemctl kill --signal=KILL systemvm-fetch.service")
    hostile.stop_being_slow()
    settled = cloud.wait_settled(row["id"])
    assert settled["isready"] or settled["status"]
    assert cloud.system_vm("secondarystoragevm")["agentstate"] == "Up"
    again = cloud.register("after the kill", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(again["id"])["isready"]
    cloud.delete_template(again["id"])
    cloud.delete_template(row["id"])
