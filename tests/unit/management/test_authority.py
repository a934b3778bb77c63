# SPDX-License-Identifier: Apache-2.0
"""Authorization of agents: calls about another agent's objects are refused and recorded in the audit log."""

from __future__ import annotations

from typing import Any, cast

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, globalLogPublisher

from present import present
from small_cloud import SmallCloud
from systemvm.management.state import console_sessions, instances, templates
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.wire import console, storage
from systemvm.wire.role import Role

CPVM, SSVM = InstanceType.CONSOLE_PROXY, InstanceType.SECONDARY_STORAGE
#: Methods whose parameters name no object.
NAMELESS = {"ping", "identity.sign", "console.recorder"}


@pytest.fixture
def audit() -> Any:
    events: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "systemvm.rpc.audit":
            events.append(event)

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
    yield events
    globalLogPublisher.removeObserver(cast(ILogObserver, observe))


def _session(cloud: SmallCloud, proxy: Instance) -> str:
    def make(connection: Any) -> str:
        vm = instances.create(
            connection,
            InstanceType.USER,
            account_id=cloud.user.account.id,
            zone_id=cloud.zone.id,
            name="one",
            state=InstanceState.RUNNING,
        )
        row = console_sessions.create(
            connection,
            account_id=cloud.user.account.id,
            domain_id=1,
            zone_id=cloud.zone.id,
            user_id=1,
            vm_id=vm.id,
            proxy_id=proxy.id,
            token_hash=console.__name__,
            token_expires=now(),
            creator_address=None,
        )
        return row.uuid

    return str(cloud.database.run_now(make))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "method", [console.CONSOLE_TARGET, console.CONSOLE_CLOSED, console.CONSOLE_LOAD], ids=str
)
async def test_cpvm_accesses_only_its_own_sessions(
    cloud: SmallCloud, audit: list[dict[str, Any]], method: str
) -> None:
    session_id = _session(cloud, cloud.cpvm)
    other = cloud.add_system_vm(CPVM)
    params_of: dict[str, dict[str, Any]] = {
        console.CONSOLE_TARGET: {"session_id": session_id, "request_id": "r"},
        console.CONSOLE_CLOSED: {"session_id": session_id, "reason": "mine now"},
        console.CONSOLE_LOAD: {"session_ids": ["unknown", session_id]},
    }
    params = params_of[method]
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(other, method, params)
    assert refused.value.code == FORBIDDEN
    [line] = audit
    assert (line["caller"], line["method"], line["request_id"]) == (
        other.instance_name,
        method,
        "request-2",
    )
    assert cloud.database.run_now(console_sessions.by_uuid, session_id).removed is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", [storage.TEMPLATE_PROGRESS, storage.TEMPLATE_FINISHED])
async def test_an_ssvm_reports_only_its_own_jobs(
    cloud: SmallCloud, audit: list[dict[str, Any]], method: str
) -> None:
    _, ref = cloud.add_template(state=storage.DownloadState.DOWNLOAD_IN_PROGRESS)
    cloud.database.run_now(templates.update_store_ref, ref.id, agent_name=cloud.ssvm.instance_name)
    other = cloud.add_system_vm(SSVM)
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(other, method, {"job_id": ref.job_id, "state": "DOWNLOADED"})
    assert refused.value.code == FORBIDDEN
    assert [line["caller"] for line in audit] == [other.instance_name]
    assert (
        present(cloud.database.run_now(templates.store_ref_of_job, ref.job_id)).state
        is storage.DownloadState.DOWNLOAD_IN_PROGRESS
    )


def test_every_method_with_an_object_declares_its_owner(cloud: SmallCloud) -> None:
    of_agents = {Role.SSVM.value, Role.CPVM.value}
    methods = [method for method in cloud.agent_methods if method.roles is not None]
    assert methods
    for method in methods:
        assert method.roles, f"{method.name} names no role"
        assert method.roles <= of_agents, f"{method.name} is open to others than agents"
        if method.name not in NAMELESS:
            assert method.objects is not None, f"{method.name} does not declare its objects"
    described = {each["name"]: each for each in cloud.agent_methods.discover()["methods"]}
    assert described["console.target"]["x-objects"] == "sessions that were given to it"
    assert described["template.finished"]["x-objects"] == "downloads that were given to it"
