# SPDX-License-Identifier: Apache-2.0
"""A second person at a real daemon: by password, by key, by CloudStack's client, disabled and deleted."""

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

from integration.test_management_api_machines import api_of, deployment, machine
from integration.test_management_core_daemon import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

__all__ = ["host"]  # the fixture


def status_of_login(host: Host, username: str, password: str) -> int:
    form = {"command": "login", "username": username, "password": password, "response": "json"}
    body = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(f"{host.page}/client/api", body, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def cli(host: Host, *words: str, password: str = "") -> str:
    command = [sys.executable, "-m", "systemvm.cli", "--root", str(host.layout.root), *words]
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_person_comes_and_goes(host: Host) -> None:
    host.start()
    host.both_running()
    admin = api_of(host)
    cli(host, "account", "create", "ada", password="first word\n")
    assert status_of_login(host, "ada", "first word") == 200
    assert status_of_login(host, "ada", "another") == 531
    keys = json.loads(cli(host, "--json", "user", "keys", "--rotate", "ada"))
    ada = CloudStack(
        endpoint=f"{host.page}/client/api",
        key=keys["apikey"],
        secret=keys["secretkey"],
        poll_interval=0.05,
        fetch_result=True,
    )
    [me] = ada.listUsers()["user"]
    values = deployment(host, ada)
    vm = ada.deployVirtualMachine(name="hers", **values)["virtualmachine"]
    assert (vm["account"], vm["state"]) == ("ada", "Running")
    with pytest.raises(CloudStackApiException):
        ada.updateUser(id=me["id"], password="second word")
    ada.updateUser(id=me["id"], password="second word", currentpassword="first word")
    assert status_of_login(host, "ada", "first word") == 531
    assert status_of_login(host, "ada", "second word") == 200

    # disabled by a daemon that is killed with the job under way
    account = admin().listAccounts(name="ada")["account"][0]
    job = admin().disableAccount(id=account["id"], lock=False, fetch_result=False)["jobid"]
    host.end(signal.SIGKILL)
    host.start()
    with pytest.raises(CloudStackApiException) as refused:
        ada.listUsers()
    assert refused.value.error["errorcode"] == 401
    assert status_of_login(host, "ada", "second word") == 531
    until(lambda: machine(admin(), "hers")["state"] == "Stopping", "machine that is being stopped")
    os.kill(host.pids()[vm["instancename"]], signal.SIGKILL)  # as a guest that obeys its power button ends
    until(
        lambda: admin().queryAsyncJobResult(jobid=job, fetch_result=False)["jobstatus"] == 1, "end of the job"
    )
    assert machine(admin(), "hers")["state"] == "Stopped"

    assert "enabled" in cli(host, "account", "enable", "ada")
    assert status_of_login(host, "ada", "second word") == 200
    assert ada.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running"
    cli(host, "account", "delete", "--yes", "ada")
    assert vm["instancename"] not in host.pids()
    assert "ada" not in cli(host, "account", "list")
    log = host.log.read_text()
    for secret in ("first word", "second word", keys["secretkey"]):
        assert secret not in log
