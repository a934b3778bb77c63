# SPDX-License-Identifier: Apache-2.0
"""The operators' methods: the API's commands over JSON-RPC."""

from __future__ import annotations

import msgspec
import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api import operators
from systemvm.management.api.authentication import Authenticator
from systemvm.rpc.core.errors import FORBIDDEN, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable


def operator_methods(cloud: SmallCloud) -> MethodTable:
    methods = MethodTable("operators", "1")
    operators.add_methods(methods, cloud.table, Authenticator(cloud.database, cloud.seal))
    return methods


OPERATOR = Call(Caller("uid:0", "operator"), "request-3", None)


@pytest_twisted.ensureDeferred
async def test_operators_call_the_same_commands_as_the_administrator(cloud: SmallCloud) -> None:
    methods = operator_methods(cloud)
    as_text = await methods.dispatch(OPERATOR, "listTemplates", {"templatefilter": "all", "isready": "true"})
    as_json = await methods.dispatch(OPERATOR, "listTemplates", {"templatefilter": "all", "isready": True})
    assert as_text == as_json == {}
    assert (await methods.dispatch(OPERATOR, "listZones", None))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_operators_errors_carry_code_and_hint(cloud: SmallCloud) -> None:
    methods = operator_methods(cloud)
    with pytest.raises(RpcError) as refused:
        await methods.dispatch(OPERATOR, "listTemplates", {"templatefilter": "sideways"})
    assert refused.value.code == INVALID_PARAMS
    assert refused.value.data["errorcode"] == 431
    assert "featured" in refused.value.hint


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("params", [{"nosuch": 1}, {"id": 5}, ["x"]])
async def test_operators_parameters_are_checked_by_type(cloud: SmallCloud, params: object) -> None:
    with pytest.raises(RpcError) as refused:
        await operator_methods(cloud).dispatch(OPERATOR, "listSystemVms", params)
    assert refused.value.code == INVALID_PARAMS


@pytest_twisted.ensureDeferred
async def test_agents_cannot_call_operator_methods_and_operators_cannot_log_in(cloud: SmallCloud) -> None:
    methods = operator_methods(cloud)
    with pytest.raises(RpcError) as refused:
        await methods.dispatch(Call(Caller("s-1-VM", "ssvm"), "r", None), "listZones", {})
    assert refused.value.code == FORBIDDEN
    with pytest.raises(RpcError) as missing:
        await methods.dispatch(OPERATOR, "login", {})
    assert missing.value.code == METHOD_NOT_FOUND


def test_the_openrpc_document_describes_every_parameter(cloud: SmallCloud) -> None:
    document = operator_methods(cloud).discover()
    assert msgspec.json.encode(document)
    [deploy] = [method for method in document["methods"] if method["name"] == "deployVirtualMachine"]
    assert {"zoneid", "templateid", "serviceofferingid", "name"} <= {
        param["name"] for param in deploy["params"]
    }
