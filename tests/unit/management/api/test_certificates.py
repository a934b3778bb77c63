# SPDX-License-Identifier: Apache-2.0
"""Commands about certificates, as in CloudStack's test/integration/smoke/test_certauthority_root.py."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from cryptography import x509

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import AgentState, InstanceType
from systemvm.rpc.core.call import Caller
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.tls.peer_certificate import describe_certificate_pem
from systemvm.wire.agent import RENEW
from systemvm.wire.role import Role

NOWHERE = "00000000-0000-4000-8000-000000000000"


class FakeConnection:
    """An agent's connection that renews on request and, by default, reconnects when it is closed."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.renewed = 0
        self.fails_with: RpcError | None = None
        self.reconnects = True
        agent.peer = self  # type: ignore[assignment]
        agent.status = AgentStatus(AgentState.UP)

    async def call(self, method: str, params: Any = None, **options: Any) -> None:
        assert method == RENEW
        if self.fails_with is not None:
            raise self.fails_with
        self.renewed += 1

    def close(self, why: str) -> None:
        self.agent.peer = None
        self.agent.status = AgentStatus(AgentState.ALERT, why, "look at its log")
        if self.reconnects:
            FakeConnection(self.agent)


def connect(cloud: SmallCloud) -> FakeConnection:
    return FakeConnection(cloud.control.expect(cloud.ssvm.instance_name, Role.SSVM))


async def host_id(cloud: SmallCloud, name: str) -> str:
    [found] = [host for host in (await cloud.call("listHosts"))["host"] if host["name"] == name]
    uuid: str = found["id"]
    return uuid


async def ended(cloud: SmallCloud, started: dict[str, Any]) -> Job:
    """Advance the clock until the job ends."""
    waiting = cloud.jobs.wait(started["jobid"])
    for _ in range(400):
        cloud.clock.advance(0.25)
        await cloud.database.run(lambda connection: None)
    return await waiting


@pytest_twisted.ensureDeferred
async def test_only_provider_is_root(cloud: SmallCloud) -> None:
    assert await cloud.call("listCAProviders") == {
        "count": 1,
        "caprovider": [{"name": "root", "description": "the control CA of this installation"}],
    }
    assert (await cloud.call("listCAProviders", name="root"))["count"] == 1
    assert await cloud.call("listCAProviders", name="other") == {}


@pytest_twisted.ensureDeferred
async def test_every_user_can_list_the_ca_certificates(cloud: SmallCloud) -> None:
    for caller in (cloud.admin, cloud.user):
        answer = await cloud.call("listCaCertificate", caller, provider="root")
        assert list(answer) == ["cacertificates"]
        [root] = x509.load_pem_x509_certificates(answer["cacertificates"]["certificate"].encode())
        assert root.signature_hash_algorithm is not None
        assert root.signature_hash_algorithm.name == "sha256"
        assert root.issuer == root.subject
    cloud.authority.roots.introduce()
    answer = await cloud.call("listCaCertificate")
    assert answer["cacertificates"]["certificate"].count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in answer["cacertificates"]["certificate"]


@pytest_twisted.ensureDeferred
async def test_provisioning_renews_the_certificate_and_keeps_the_connection(cloud: SmallCloud) -> None:
    peer = connect(cloud)
    job = await cloud.job("provisionCertificate", hostid=await host_id(cloud, "s-1-VM"))
    assert job.result == {"success": True, "displaytext": "the agent has a new certificate"}
    assert peer.renewed == 1
    assert peer.agent.peer is peer
    reply = await cloud.call("queryAsyncJobResult", jobid=job.uuid)
    assert (reply["jobstatus"], reply["jobinstancetype"], reply["jobinstanceid"]) == (
        1,
        "Host",
        cloud.ssvm.uuid,
    )


@pytest_twisted.ensureDeferred
async def test_provisioning_with_a_reconnect_ends_when_the_host_is_up_again(cloud: SmallCloud) -> None:
    peer = connect(cloud)
    job = await cloud.job("provisionCertificate", hostid=cloud.ssvm.uuid, reconnect="true", provider="root")
    assert job.result is not None and job.result["success"] is True
    assert peer.renewed == 1
    assert peer.agent.peer is not peer
    assert peer.agent.is_up


@pytest_twisted.ensureDeferred
async def test_job_fails_when_the_agent_does_not_reconnect(cloud: SmallCloud) -> None:
    connect(cloud).reconnects = False
    started = await cloud.call("provisionCertificate", hostid=cloud.ssvm.uuid, reconnect="true")
    job = await ended(cloud, started)
    assert job.result is not None
    assert job.result["errortext"] == "s-1-VM has a new certificate, but did not connect again within 60 s"
    assert job.result["hint"] == "look at its log"


@pytest_twisted.ensureDeferred
async def test_failed_renewal_of_an_agent_is_reported(cloud: SmallCloud) -> None:
    job = await cloud.job("provisionCertificate", hostid=cloud.cpvm.uuid)
    assert job.result is not None
    assert "no system VM named v-2-VM" in job.result["errortext"]
    peer = connect(cloud)
    peer.fails_with = RpcError(NOT_CONNECTED, "connection closed")
    job = await cloud.job("provisionCertificate", hostid=cloud.ssvm.uuid)
    assert job.result is not None
    assert "connection closed" in job.result["errortext"]


@pytest_twisted.ensureDeferred
async def test_only_system_vms_are_provisioned(cloud: SmallCloud) -> None:
    machine = cloud.add_system_vm(InstanceType.USER)
    with pytest.raises(ApiError, match="is not a system VM"):
        await cloud.call("provisionCertificate", hostid=machine.uuid)
    with pytest.raises(LookupError):
        await cloud.call("provisionCertificate", hostid=NOWHERE)


@pytest_twisted.ensureDeferred
async def test_revoked_certificate_is_rejected_and_recorded(cloud: SmallCloud) -> None:
    pem = cloud.authority.bootstrap("s-1-VM", Role.SSVM).certificate_pem
    caller = Caller("s-1-VM", "ssvm", describe_certificate_pem(pem))
    cloud.certificates.check(caller)
    serial = f"{x509.load_pem_x509_certificate(pem).serial_number:x}"
    pairs = serial.upper().zfill(len(serial) + len(serial) % 2)
    with_colons = ":".join(pairs[at : at + 2] for at in range(0, len(pairs), 2))  # as openssl writes it
    job = await cloud.job("revokeCertificate", serial=with_colons, cn="s-1-VM", provider="root")
    assert job.result == {"success": True, "displaytext": f"revoked {serial} of s-1-VM"}
    with pytest.raises(RpcError, match="was revoked"):
        cloud.certificates.check(caller)
    [row] = await cloud.certificates.newest("s-1-VM")
    assert (row.serial, row.name, row.reason) == (serial, "s-1-VM", "by the API s-1-VM")
    assert row.revoked is not None


@pytest_twisted.ensureDeferred
async def test_unknown_certificate_cannot_be_revoked(cloud: SmallCloud) -> None:
    job = await cloud.job("revokeCertificate", serial="abcdef")
    assert job.result is not None
    assert "no certificate with the serial abcdef" in job.result["errortext"]


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("listCAProviders", {}),
        ("provisionCertificate", {"hostid": NOWHERE}),
        ("revokeCertificate", {"serial": "1"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_users_cannot_call_administrators_commands(
    cloud: SmallCloud, command: str, parameters: dict[str, str]
) -> None:
    with pytest.raises(ApiError):
        await cloud.call(command, cloud.user, **parameters)


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("listCaCertificate", {"provider": "other"}),
        ("provisionCertificate", {}),
        ("provisionCertificate", {"hostid": "s-1-VM"}),
        ("revokeCertificate", {}),
        ("revokeCertificate", {"serial": "1", "provider": "other"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_invalid_parameters_are_rejected(
    cloud: SmallCloud, command: str, parameters: dict[str, str]
) -> None:
    with pytest.raises(ApiError):
        await cloud.call(command, **parameters)
