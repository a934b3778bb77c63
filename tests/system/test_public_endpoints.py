# SPDX-License-Identifier: Apache-2.0
"""Page and console at advertised origins: a name, a wildcard, an address, and behind an nginx.

Chromium has the public root in its store, and no option that relaxes checks of certificates. The daemon is
restarted with the configuration of each variant, and finally with its original one.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from playwright.sync_api import BrowserContext, Error, expect, sync_playwright

from booted_cloud import BootedCloud, wait_for
from console_page import CHROMIUM, log_in, new_context, open_section, scaled_ms, wait_screen
from free_ports import free_ports

pytestmark = pytest.mark.cloud

Advertise = Callable[[dict[str, Any], dict[str, Any]], None]
#: Host names that Chromium resolves to this machine.
NAMES = "MAP *.example.test 127.0.0.1"


@pytest.fixture(scope="module")
def machine(cloud: BootedCloud) -> Iterator[str]:
    row = cloud.register("endpoint-tiny", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.cli("vm", "deploy", "endpoints", "--template", "endpoint-tiny")
    yield "endpoints"
    cloud.cli("vm", "destroy", "endpoints", "--yes")


@pytest.fixture(scope="module")
def original_files(cloud: BootedCloud) -> Iterator[dict[Path, str]]:
    """The cloud's configuration, which is restored at the end."""
    layout = cloud.plan.layout
    [zone] = layout.zones.glob("*.yaml")
    files = {path: path.read_text() for path in (layout.config_file, zone)}
    yield files
    for path, text in files.items():
        path.write_text(text)
    restart(cloud)


@pytest.fixture
def advertise(cloud: BootedCloud, original_files: dict[Path, str]) -> Advertise:
    """Restart the daemon with these keys of `page` and `console` instead of the original ones."""

    def with_keys(page: dict[str, Any], console: dict[str, Any]) -> None:
        for (path, original), key, changes in zip(
            original_files.items(), ("page", "console"), (page, console), strict=True
        ):
            text = yaml.safe_load(original)
            text[key] |= changes
            path.write_text(yaml.safe_dump(text))
        restart(cloud)

    return with_keys


def restart(cloud: BootedCloud) -> None:
    cloud.lab.stop_daemon()
    cloud.lab.start_daemon()

    def is_up() -> bool:
        rows = cloud.cli_json("system-vm", "list")
        return bool(rows) and all(row.get("agentstate") == "Up" for row in rows)

    wait_for("both agents Up after the restart", is_up)


@contextmanager
def chromium(home: Path, *roots: str) -> Iterator[BrowserContext]:
    """Run a browser that also trusts these roots (PEM)."""
    store = home / ".pki/nssdb"
    store.mkdir(parents=True, exist_ok=True)
    run: list[str | Path] = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*run, "-N", "--empty-password"], check=True, timeout=60)
    for number, root in enumerate(roots):
        name = f"root-{number}"
        (home / name).write_text(root)
        add = [*run, "-A", "-t", "C,,", "-n", name, "-i", home / name]
        subprocess.run(add, check=True, timeout=60)
    arguments = [*CHROMIUM["args"], f"--host-resolver-rules={NAMES}"]
    assert not [argument for argument in arguments if "certificate" in argument]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            **{**CHROMIUM, "args": arguments}, env={**os.environ, "HOME": str(home)}
        )
        context = new_context(browser, viewport={"width": 1280, "height": 900})
        yield context
        browser.close()


def open_page_and_console(cloud: BootedCloud, context: BrowserContext, page_url: str, machine: str) -> str:
    """Log in at the page, click View Console, wait for the screen; return the URL of the console."""
    page = context.new_page()
    log_in(page, page_url, cloud.lab.login)
    open_section(page, "Virtual machines")
    row = page.locator("#vms .row", has_text=machine)
    with context.expect_page() as opened:
        row.get_by_role("button", name="View Console").click()
    console = opened.value
    wait_screen(console)
    address: str = console.url
    page.close()
    console.close()
    return address


def root_of(cloud: BootedCloud) -> str:
    return cloud.cli("ca", "show").stdout


def test_a_dns_name_works_only_with_the_root_certificate(
    cloud: BootedCloud, machine: str, advertise: Advertise, tmp_path: Path
) -> None:
    page_url = f"https://cloud.example.test:{cloud.plan.page_port}"
    console = f"https://console.example.test:{cloud.plan.console_port}"
    advertise({"origin": page_url}, {"origin": console})
    with chromium(tmp_path / "with-root", root_of(cloud)) as context:
        assert open_page_and_console(cloud, context, page_url, machine) == f"{console}/console"
        second = context.new_page()
        response = second.goto(page_url)
        assert response is not None
        assert response.headers["strict-transport-security"]
        with pytest.raises(Error, match="ERR_CERT_COMMON_NAME_INVALID"):
            second.goto(page_url.replace("cloud.", "other."))
    with chromium(tmp_path / "without-root") as context:
        page = context.new_page()
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            page.goto(page_url)


def test_a_wildcard_name_works(
    cloud: BootedCloud, machine: str, advertise: Advertise, tmp_path: Path
) -> None:
    port = cloud.plan.console_port
    advertise({}, {"origin": f"https://*.consoles.example.test:{port}"})
    cpvm = cloud.system_vm("consoleproxy")
    host = cpvm["publicip"].replace(".", "-") + ".consoles.example.test"
    with chromium(tmp_path, root_of(cloud)) as context:
        address = open_page_and_console(cloud, context, cloud.plan.page_url, machine)
    assert address == f"https://{host}:{port}/console"


def test_a_plain_address_works(
    cloud: BootedCloud, machine: str, advertise: Advertise, tmp_path: Path
) -> None:
    page_url = f"https://127.0.0.1:{cloud.plan.page_port}"
    advertise({"origin": page_url}, {})
    with chromium(tmp_path, root_of(cloud)) as context:
        address = open_page_and_console(cloud, context, page_url, machine)
    assert address == f"{cloud.plan.console_origin}/console"


def test_a_path_behind_an_nginx_with_tls_works(
    cloud: BootedCloud, machine: str, advertise: Advertise, tmp_path: Path
) -> None:
    """Both have the same host name, each with its own path."""
    [port] = free_ports(1)
    origin = f"https://cloud.example.test:{port}"
    own = trustme.CA()
    page = {"origin": f"{origin}/cloud", "tls": False, "trusted_proxies": ["127.0.0.1"]}
    console = {"origin": f"{origin}/screens"}
    advertise(page, console)
    root = root_of(cloud)
    with nginx(cloud, tmp_path, port, own.issue_cert("cloud.example.test"), root):
        with chromium(tmp_path / "home", own.cert_pem.bytes().decode()) as context:
            address = open_page_and_console(cloud, context, f"{origin}/cloud", machine)
            assert address == f"{origin}/screens/console"
            refused = context.new_page()
            refused.goto(f"{origin}/screens/console?cmd=auth&token=none")
            expect(refused.locator("body")).to_contain_text("not", timeout=scaled_ms(30.0))
            # neither answers outside of its path
            nothing = refused.goto(f"{origin}/screens")
            assert nothing is not None
            assert nothing.status == 404


@contextmanager
def nginx(
    cloud: BootedCloud, folder: Path, port: int, certificate: trustme.LeafCert, root: str
) -> Iterator[None]:
    """Run nginx with an operator's configuration; it connects to the consoles by verified TLS."""
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    (folder / "root.pem").write_text(root)
    (folder / "nginx.conf").write_text(f"""
daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream screens {{ server 127.0.0.1:{cloud.plan.console_port}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name cloud.example.test;
    ssl_certificate {folder}/chain.pem;
    ssl_certificate_key {folder}/key.pem;
    proxy_http_version 1.1;
    location /cloud {{
      proxy_pass http://127.0.0.1:{cloud.plan.page_port};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
    location /screens {{
      proxy_pass https://screens;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {folder}/root.pem;
      proxy_ssl_server_name on;
      proxy_ssl_name cloud.example.test;
    }}
  }}
}}
""")
    server = subprocess.Popen(["nginx", "-c", folder / "nginx.conf"])
    try:
        wait_for("nginx", _accepts(port))
        yield
    finally:
        server.terminate()
        server.wait(timeout=120)


def _accepts(port: int) -> Callable[[], bool]:
    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return accepts
