# SPDX-License-Identifier: Apache-2.0
"""A second account of a real daemon: password, API key, disabled and deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
from cs import CloudStack, CloudStackApiException
from playwright.sync_api import Page, expect

from integration.api_lab import api_of, deployment, machine
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

__all__ = ["host"]  # the fixture


def status_of_login(host: Host, username: str, password: str) -> int:
    form = {"command": "login", "username": username, "password": password, "response": "json"}
    body = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(f"{host.page}/client/api", body, timeout=240) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def cli(host: Host, *arguments: str, password: str = "") -> str:
    command = [sys.executable, "-m", "systemvm.cli", "--root", str(host.layout.root), *arguments]
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_account_is_created_disabled_and_deleted(host: Host) -> None:
    host.start()
    host.both_running()
    admin = api_of(host)
    cli(host, "account", "create", "ada", password="first password\n")
    assert status_of_login(host, "ada", "first password") == 200
    assert status_of_login(host, "ada", "another") == 531
    keys = json.loads(cli(host, "--json", "user", "keys", "--rotate", "ada"))
    ada = CloudStack(
        endpoint=f"{host.page}/client/api",
        key=keys["apikey"],
        secret=keys["secretkey"],
        timeout=120,
        poll_interval=0.05,
        fetch_result=True,
    )
    [me] = ada.listUsers()["user"]
    values = deployment(host, ada)
    vm = ada.deployVirtualMachine(name="hers", **values)["virtualmachine"]
    assert (vm["account"], vm["state"]) == ("ada", "Running")
    with pytest.raises(CloudStackApiException):
        ada.updateUser(id=me["id"], password="second password")
    ada.updateUser(id=me["id"], password="second password", currentpassword="first password")
    assert status_of_login(host, "ada", "first password") == 531
    assert status_of_login(host, "ada", "second password") == 200

    # the daemon is killed while it disables the account, and completes the job after its restart
    account = admin().listAccounts(name="ada")["account"][0]
    job = admin().disableAccount(id=account["id"], lock=False, fetch_result=False)["jobid"]
    until(lambda: machine(admin(), "hers")["state"] == "Stopping", "machine that is being stopped")
    host.end(signal.SIGKILL)
    host.start()

    def is_refused() -> bool:
        try:
            ada.listUsers()
        except CloudStackApiException as refused:
            return bool(refused.error["errorcode"] == 401)
        return False

    assert is_refused()
    assert status_of_login(host, "ada", "second password") == 531
    until(lambda: machine(admin(), "hers")["state"] == "Stopping", "machine that is being stopped again")
    os.kill(host.pids()[vm["instancename"]], signal.SIGKILL)  # as if the guest reacted to its power button
    until(
        lambda: admin().queryAsyncJobResult(jobid=job, fetch_result=False)["jobstatus"] == 1, "end of the job"
    )
    assert machine(admin(), "hers")["state"] == "Stopped"

    assert "enabled" in cli(host, "account", "enable", "ada")
    assert status_of_login(host, "ada", "second password") == 200
    assert ada.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running"
    cli(host, "account", "delete", "--yes", "ada")
    assert vm["instancename"] not in host.pids()
    assert "ada" not in cli(host, "account", "list")
    log = host.log.read_text()
    for secret in ("first password", "second password", keys["secretkey"]):
        assert secret not in log


def test_a_user_changes_the_password_on_the_page(host: Host) -> None:
    host.start()
    host.both_running()
    admin = api_of(host)()
    cli(host, "account", "create", "ada", password="first password\n")
    deployment(host, admin)  # the administrator's template, which no other account sees
    chromium = Chromium()

    def log_in(page: Page, password: str) -> None:
        page.goto(host.page)
        page.fill("[name=username]", "ada")
        page.fill("[name=password]", password)
        page.click("#login-form button")

    def change(page: Page, current: str, new: str, again: str) -> None:
        page.fill("#fields [name=current]", current)
        page.fill("#fields [name=next]", new)
        page.fill("#fields [name=again]", again)
        page.click("#fields button.primary")

    def steps(page: Page) -> None:
        log_in(page, "first password")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#templates")).to_contain_text("There is no template or ISO yet")
        expect(page.locator("#system-section")).to_be_hidden()
        page.click("#open-password")
        complaint = page.locator("#fields .error")
        change(page, "first password", "second password", "second passwrod")
        expect(complaint).to_have_text("new passwords differ: enter the same one twice")
        change(page, "guess", "second password", "second password")
        expect(complaint).to_have_text("Current password is incorrect.")
        change(page, "first password", "second password", "second password")
        expect(page.locator("#toasts")).to_contain_text("The password is changed")
        expect(page.locator("#live")).to_have_text("live")
        page.reload()
        expect(page.locator("#live")).to_have_text("live")
        page.click("#logout")
        expect(page.locator("#login")).to_be_visible()
        log_in(page, "second password")
        expect(page.locator("#live")).to_have_text("live")
        assert status_of_login(host, "ada", "first password") == 531

    try:
        chromium.run(steps)
    finally:
        chromium.close()
