# SPDX-License-Identifier: Apache-2.0
"""Passwords of VMs: answered once, sealed until the guest has them, and reset."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.network_helper import NetworkError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances, jobs, machine_passwords
from systemvm.management.state.instances import Instance
from systemvm.management.state.machine_passwords import MachinePassword
from systemvm.management.virtual_machines.passwords import check_password, new_password
from unfinished_job import begins
from user_vms import add_addresses, deployment_parameters

ADDRESS = IPv4Address("10.13.0.50")


async def start_deployment(cloud: SmallCloud, user: Principal | None = None, **more: Any) -> str:
    """Deploy a VM from a template that takes passwords; return its job, which has ended."""
    template = cloud.add_template(owner=user, password_enabled=True)[0]
    parameters = await deployment_parameters(cloud, template, name="one", **more)
    started = await cloud.call("deployVirtualMachine", user, **parameters)
    await cloud.jobs.wait(started["jobid"])
    return str(started["jobid"])


async def result_of(cloud: SmallCloud, job: str, user: Principal | None = None) -> dict[str, Any]:
    answer = await cloud.call("queryAsyncJobResult", user, jobid=job)
    found: dict[str, Any] = answer["jobresult"]["virtualmachine"]
    return found


def machine_of(cloud: SmallCloud, answer: dict[str, Any]) -> Instance:
    return cloud.database.run_now(instances.by_uuid, answer["id"])


def password_of(cloud: SmallCloud, vm: Instance) -> MachinePassword | None:
    return cloud.database.run_now(machine_passwords.of_vm, vm.id)


@pytest_twisted.ensureDeferred
async def test_a_password_is_answered_once_and_waits_for_the_guest(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    job = await start_deployment(cloud)
    first, second = await result_of(cloud, job), await result_of(cloud, job)
    assert first["passwordenabled"] is True
    password = first.pop("password")
    assert len(password) == 16
    assert first == second
    waiting = present(cloud.guest_services.data[ADDRESS].password)
    assert waiting.text == password
    assert password not in repr(waiting)


@pytest_twisted.ensureDeferred
async def test_no_row_has_a_password_in_clear_text(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    job = await start_deployment(cloud, password="SikritSquirrel-17", displayname="in clear text")
    vm = machine_of(cloud, await result_of(cloud, job))
    _, _, path = present(
        cloud.database.run_now(lambda connection: connection.exec_driver_sql("PRAGMA database_list").first())
    )
    stored = b"".join(file.read_bytes() for file in Path(path).parent.glob(Path(path).name + "*"))
    assert b"in clear text" in stored
    assert b"SikritSquirrel-17" not in stored
    assert cloud.seal.open(present(present(password_of(cloud, vm)).sealed)) == "SikritSquirrel-17"


@pytest_twisted.ensureDeferred
async def test_a_password_that_the_guest_has_taken_is_forgotten(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = machine_of(cloud, await result_of(cloud, await start_deployment(cloud)))
    stored = present(password_of(cloud, vm))
    cloud.guest_services.taken = ["of another", stored.uuid]
    await cloud.guest_networks.update()
    after = present(password_of(cloud, vm))
    assert after.sealed is None
    assert after.taken is not None
    assert cloud.guest_services.data[ADDRESS].password is None
    # an answer for the password before does not forget the one after
    await cloud.job("stopVirtualMachine", id=vm.uuid, forced="true")
    await cloud.job("resetPasswordForVirtualMachine", id=vm.uuid)
    await cloud.guest_networks.update()
    assert present(password_of(cloud, vm)).sealed is not None


@pytest_twisted.ensureDeferred
async def test_a_password_waits_while_the_services_do_not_answer(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    cloud.guest_services.error = NetworkError("no answer", "")
    answer = await result_of(cloud, await start_deployment(cloud))
    cloud.guest_services.error = None
    await cloud.guest_networks.update()
    assert present(cloud.guest_services.data[ADDRESS].password).text == answer["password"]


@pytest_twisted.ensureDeferred
async def test_a_password_is_reset_while_its_vm_is_stopped(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = machine_of(cloud, await result_of(cloud, await start_deployment(cloud)))
    refused = await cloud.job("resetPasswordForVirtualMachine", id=vm.uuid)
    assert "one should be stopped to do password reset: it is Running" in refused.result["errortext"]
    await cloud.job("stopVirtualMachine", id=vm.uuid, forced="true")
    for asked, expected in (({}, 16), ({"password": "of my own"}, 9)):
        started = await cloud.call("resetPasswordForVirtualMachine", id=vm.uuid, **asked)
        await cloud.jobs.wait(started["jobid"])
        job = cloud.database.run_now(jobs.by_uuid, started["jobid"])
        assert job.arguments == {"id": vm.id, "object_parameter": "id"}
        answer = await result_of(cloud, started["jobid"])
        assert len(answer["password"]) == expected
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert present(cloud.guest_services.data[ADDRESS].password).text == "of my own"


@pytest_twisted.ensureDeferred
async def test_only_the_user_who_asked_is_given_a_password(cloud: SmallCloud) -> None:
    job = await start_deployment(cloud, cloud.user)
    assert "password" not in await result_of(cloud, job, cloud.admin)
    listed = await cloud.call("listAsyncJobs", cloud.user)
    assert all("password" not in each["jobresult"]["virtualmachine"] for each in listed["asyncjobs"])
    assert "password" in await result_of(cloud, job, cloud.user)


@pytest_twisted.ensureDeferred
async def test_a_failed_job_has_no_password(cloud: SmallCloud) -> None:
    vm = machine_of(cloud, await result_of(cloud, await start_deployment(cloud)))
    started = await cloud.call("resetPasswordForVirtualMachine", id=vm.uuid)
    await cloud.jobs.wait(started["jobid"])
    assert cloud.database.run_now(jobs.by_uuid, started["jobid"]).sealed_password is None


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_killed_answers_the_password_after_its_start(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    vm = machine_of(cloud, await result_of(cloud, await start_deployment(cloud)))
    await cloud.job("stopVirtualMachine", id=vm.uuid, forced="true")
    # between the row of the job, which has it, and its work, and again after its work
    job = cloud.database.run_now(
        lambda connection: jobs.create(
            connection,
            command="resetPasswordForVirtualMachine",
            arguments={"id": vm.id},
            account_id=cloud.admin.account.id,
            domain_id=cloud.admin.domain.id,
            user_id=cloud.admin.user.id,
            sealed_password=cloud.seal.close("after the start"),
        )
    )
    before = password_of(cloud, vm)
    await cloud.machines.reset_password(vm.id, present(job.sealed_password), begins(job))
    once = password_of(cloud, vm)
    assert once != before
    await cloud.machines.start(vm.id)
    await cloud.jobs.resume_pending()
    await cloud.jobs.wait(job.uuid)
    assert password_of(cloud, vm) == once  # the same one
    assert (await result_of(cloud, job.uuid))["password"] == "after the start"


@pytest_twisted.ensureDeferred
async def test_a_template_without_passwords_gives_none(cloud: SmallCloud) -> None:
    template = cloud.add_template()[0]
    parameters = await deployment_parameters(cloud, template, name="one")
    with pytest.raises(ApiError, match=r"parameter password: template .* takes none"):
        await cloud.call("deployVirtualMachine", **parameters, password="x")
    started = await cloud.call("deployVirtualMachine", **parameters)
    await cloud.jobs.wait(started["jobid"])
    answer = await result_of(cloud, started["jobid"])
    assert "password" not in answer
    assert answer["passwordenabled"] is False
    with pytest.raises(ApiError, match="the template is not password enabled"):
        await cloud.call("resetPasswordForVirtualMachine", id=answer["id"])
    # its owner can change that
    await cloud.call("updateTemplate", id=template.uuid, passwordenabled="true")
    await cloud.job("stopVirtualMachine", id=answer["id"], forced="true")
    assert (await cloud.job("resetPasswordForVirtualMachine", id=answer["id"])).result_code == 0


@pytest_twisted.ensureDeferred
async def test_another_accounts_password_is_not_reset(cloud: SmallCloud) -> None:
    answer = await result_of(cloud, await start_deployment(cloud))
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call("resetPasswordForVirtualMachine", cloud.user, id=answer["id"])


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r", " a", "a ", "\0", "x" * 256, "saved_password", "bad_request"]
)
@pytest_twisted.ensureDeferred
async def test_a_password_that_would_not_arrive_is_refused(cloud: SmallCloud, text: str) -> None:
    template = cloud.add_template(password_enabled=True)[0]
    parameters = await deployment_parameters(cloud, template, password=text)
    with pytest.raises(ApiError, match="parameter password: it"):
        await cloud.call("deployVirtualMachine", **parameters)
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
async def test_a_password_goes_with_its_vm(cloud: SmallCloud) -> None:
    vm = machine_of(cloud, await result_of(cloud, await start_deployment(cloud)))
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert password_of(cloud, vm) is None


@pytest_twisted.ensureDeferred
async def test_another_seal_keeps_the_other_data_from_nobody(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    job = await start_deployment(cloud, startvm="false")
    vm = machine_of(cloud, await result_of(cloud, job))
    cloud.database.run_now(machine_passwords.put, vm.id, Seal(bytes(32)).close("of another seal"))
    assert (await cloud.job("startVirtualMachine", id=vm.uuid)).result_code == 0
    assert ADDRESS not in cloud.guest_services.data  # it is logged, and the VM runs


def test_a_random_password_can_be_one() -> None:
    found = {new_password() for _ in range(100)}
    assert len(found) == 100
    for each in found:
        check_password(each)
