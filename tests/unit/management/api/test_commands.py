# SPDX-License-Identifier: Apache-2.0
"""The command table: its commands, their replies and their permissions."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.management.api.command import Command, CommandTable
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.parameters import ADDED_BY_CLIENTS
from systemvm.management.api.principal import Principal
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state.status import AgentState, InstanceState, InstanceType

#: The commands that CloudStack's clients, the page and the CLI use.
EXPECTED = {
    *("getApiLimit", "resetApiLimit"),
    *("createTemplate", "extractSnapshot", "extractVolume", "copySnapshot"),
    *(
        "createStoragePool",
        "updateStoragePool",
        "deleteStoragePool",
        "migrateVirtualMachine",
        "migrateVolume",
    ),
    *("enableStorageMaintenance", "cancelStorageMaintenance"),
    *("uploadVolume", "getUploadParamsForVolume", "renewUploadParamsForVolume"),
    *("createServiceOffering", "updateServiceOffering", "deleteServiceOffering"),
    *("createZone", "updateZone", "deleteZone", "createPod", "updatePod", "deletePod"),
    *("addCluster", "updateCluster", "deleteCluster"),
    *("createPhysicalNetwork", "updatePhysicalNetwork", "deletePhysicalNetwork"),
    *("addTrafficType", "updateTrafficType", "deleteTrafficType", "listTrafficTypes"),
    *("createVlanIpRange", "updateVlanIpRange", "deleteVlanIpRange"),
    *("createManagementNetworkIpRange", "deleteManagementNetworkIpRange"),
    "updatePodManagementNetworkIpRange",
    *("createStorageNetworkIpRange", "updateStorageNetworkIpRange", "deleteStorageNetworkIpRange"),
    "listStorageNetworkIpRange",
    *("uploadCustomCertificate", "listCustomCertificates", "deleteCustomCertificate"),
    *("listPublicNames", "renewPublicCertificate"),
    "registerAcmeAccount",
    *("extractIso", "extractTemplate"),
    *("attachIso", "detachIso"),
    *("createVolume", "attachVolume", "detachVolume", "resizeVolume", "deleteVolume"),
    *("createSnapshot", "listSnapshots", "deleteSnapshot", "revertSnapshot"),
    *("createDiskOffering", "updateDiskOffering", "deleteDiskOffering"),
    *("createSnapshotPolicy", "listSnapshotPolicies", "deleteSnapshotPolicies"),
    *("listConsoleSessions", "endConsoleSession", "drainConsoleProxy"),
    *("listConsoleRecordings", "openConsoleRecording", "readConsoleRecording", "deleteConsoleRecording"),
    *("setConsoleRecordingRule", "listConsoleRecordingRules"),
    "watchConsoleSession",
    *("listConfigurations", "updateConfiguration", "resetConfiguration", "resetPasswordForVirtualMachine"),
    *("createConsoleEndpoint", "deleteIso", "deleteTemplate", "deployVirtualMachine", "destroySystemVm"),
    *("destroyVirtualMachine", "listApis", "listAsyncJobs", "listCapabilities", "listHosts", "listIsos"),
    *("listServiceOfferings", "listSystemVms", "listTemplates", "listVirtualMachines", "listZones", "login"),
    *("logout", "queryAsyncJobResult", "rebootSystemVm", "registerIso", "registerTemplate", "startSystemVm"),
    *("startVirtualMachine", "stopSystemVm", "stopVirtualMachine", "patchSystemVm"),
    *("getDiagnosticsData", "runDiagnostics", "listEvents", "archiveEvents", "deleteEvents"),
    *("listAlerts", "archiveAlerts", "deleteAlerts", "listCapacity"),
    *("generateAlert", "listAlertDeliveries"),
    *("createTags", "deleteTags", "listTags"),
    *("addAnnotation", "listAnnotations", "removeAnnotation", "updateAnnotationVisibility"),
    *("migrateSystemVm", "scaleSystemVm", "changeServiceForSystemVm", "prepareTemplate"),
    "createConsoleThumbnail",
    *(
        "createConsoleScreenshot",
        "sendConsoleKeys",
        "typeConsoleText",
        *("waitForConsoleImage", "waitForConsoleText", "readConsoleText"),
    ),
    *("expungeVirtualMachine", "recoverVirtualMachine", "rebootVirtualMachine"),
    *("restoreVirtualMachine", "scaleVirtualMachine", "changeServiceForVirtualMachine"),
    *(
        "listCAProviders",
        "listCaCertificate",
        "issueCertificate",
        "provisionCertificate",
        "revokeCertificate",
    ),
    *("listPods", "listClusters", "listStoragePools", "listPhysicalNetworks", "listVlanIpRanges"),
    *("addHost", "updateHost", "reconnectHost", "deleteHost", "listHypervisorCapabilities"),
    *("addImageStore", "updateImageStore", "deleteImageStore"),
    *("createSecondaryStagingStore", "listSecondaryStagingStores", "deleteSecondaryStagingStore"),
    *("updateResourceLimit", "listResourceLimits", "updateResourceCount"),
    *("setupUserTwoFactorAuthentication", "validateUserTwoFactorAuthenticationCode"),
    "listUserTwoFactorAuthenticatorProviders",
    *("createUserKey", "listUserKeys", "deleteUserKey"),
    *("createDomain", "updateDomain", "deleteDomain"),
    *("createRole", "listRoles", "updateRole", "deleteRole"),
    *("createRolePermission", "listRolePermissions", "updateRolePermission", "deleteRolePermission"),
    *("migrateSecondaryStorageData", "retireImageStore", "cancelImageStoreMigration"),
    *("listImageStoreObjects", "downloadImageStoreObject", "adoptImageStoreTemplates"),
    *("copyTemplate", "copyIso", "updateTemplate", "updateIso", "updateVirtualMachine"),
    "getVirtualMachineUserData",
    *("createNetwork", "updateNetwork", "deleteNetwork", "restartNetwork"),
    *("updateTemplatePermissions", "updateIsoPermissions"),
    *("listTemplatePermissions", "listIsoPermissions"),
    *("listImageStores", "listHypervisors", "listNetworks", "listPublicIpAddresses", "listVolumes"),
    *("retryTemplate", "retryIso"),
    *("getUploadParamsForTemplate", "getUploadParamsForIso"),
    *("renewUploadParamsForTemplate", "renewUploadParamsForIso"),
    *("uploadTemplateDirectDownloadCertificate", "revokeTemplateDirectDownloadCertificate"),
    "listTemplateDirectDownloadCertificates",
    *("listOsTypes", "listOsCategories"),
    *("createAccount", "updateAccount", "disableAccount", "enableAccount", "deleteAccount", "listAccounts"),
    *("createUser", "updateUser", "disableUser", "enableUser", "deleteUser", "getUser", "listUsers"),
    *("lockUser", "getUserKeys", "registerUserKeys", "listDomains"),
    *("listDiskOfferings", "listPortForwardingRules", "listIpForwardingRules"),
    *("listSSHKeyPairs", "listSecurityGroups", "listAffinityGroups", "listAffinityGroupTypes"),
    *("listInstanceGroups", "listProjects", "listFirewallRules", "listEgressFirewallRules"),
    *("listRouters", "listVPCs", "listVPCOfferings"),
    *("listNics", "listNetworkOfferings", "listAccountUsage"),
    *("listUsageRecords", "listUsageTypes", "listDomainChildren"),
    *("listStorageProviders", "listStorageTags", "listAlertTypes"),
}


ADMINISTRATORS = {
    *("listStorageProviders", "listStorageTags", "listAlertTypes", "listDomainChildren"),
    *("generateAlert", "listAlertDeliveries"),
    "resetApiLimit",
    *("createDiskOffering", "updateDiskOffering", "deleteDiskOffering"),
    *(
        "createStoragePool",
        "updateStoragePool",
        "deleteStoragePool",
        "migrateVirtualMachine",
        "migrateVolume",
    ),
    *("enableStorageMaintenance", "cancelStorageMaintenance"),
    *("createServiceOffering", "updateServiceOffering", "deleteServiceOffering"),
    *("addHost", "updateHost", "reconnectHost", "deleteHost", "listHypervisorCapabilities"),
    *("createZone", "updateZone", "deleteZone", "createPod", "updatePod", "deletePod"),
    *("addCluster", "updateCluster", "deleteCluster"),
    *("createPhysicalNetwork", "updatePhysicalNetwork", "deletePhysicalNetwork"),
    *("addTrafficType", "updateTrafficType", "deleteTrafficType", "listTrafficTypes"),
    *("createVlanIpRange", "updateVlanIpRange", "deleteVlanIpRange"),
    *("createManagementNetworkIpRange", "deleteManagementNetworkIpRange"),
    "updatePodManagementNetworkIpRange",
    *("createStorageNetworkIpRange", "updateStorageNetworkIpRange", "deleteStorageNetworkIpRange"),
    "listStorageNetworkIpRange",
    *("uploadCustomCertificate", "listCustomCertificates", "deleteCustomCertificate"),
    *("listPublicNames", "renewPublicCertificate"),
    "registerAcmeAccount",
    *("createAccount", "updateAccount", "disableAccount", "enableAccount", "deleteAccount"),
    *("createUser", "disableUser", "enableUser", "lockUser", "deleteUser", "getUser"),
    *("uploadTemplateDirectDownloadCertificate", "revokeTemplateDirectDownloadCertificate"),
    "listTemplateDirectDownloadCertificates",
    *("listConfigurations", "updateConfiguration", "resetConfiguration", "drainConsoleProxy"),
    *("deleteConsoleRecording", "setConsoleRecordingRule", "listConsoleRecordingRules"),
    "watchConsoleSession",
    *("listAlerts", "archiveAlerts", "deleteAlerts", "listCapacity"),
    "updateAnnotationVisibility",
    *("migrateSystemVm", "scaleSystemVm", "changeServiceForSystemVm", "prepareTemplate"),
    "getDiagnosticsData",
    "runDiagnostics",
    "patchSystemVm",
    "destroySystemVm",
    "listCAProviders",
    "listClusters",
    "listHosts",
    *("addImageStore", "listImageStores", "updateImageStore", "deleteImageStore"),
    *("createSecondaryStagingStore", "listSecondaryStagingStores", "deleteSecondaryStagingStore"),
    *("updateResourceLimit", "updateResourceCount"),
    *("createDomain", "updateDomain", "deleteDomain"),
    *("createRole", "listRoles", "updateRole", "deleteRole"),
    *("createRolePermission", "listRolePermissions", "updateRolePermission", "deleteRolePermission"),
    *("migrateSecondaryStorageData", "retireImageStore", "cancelImageStoreMigration"),
    *("listImageStoreObjects", "downloadImageStoreObject", "adoptImageStoreTemplates"),
    "listPhysicalNetworks",
    "listPods",
    "listStoragePools",
    "listSystemVms",
    "listVlanIpRanges",
    "issueCertificate",
    "provisionCertificate",
    "rebootSystemVm",
    "revokeCertificate",
    "startSystemVm",
    "stopSystemVm",
}


def test_the_table_has_the_commands_of_this_release(cloud: SmallCloud) -> None:
    assert {command.name for command in cloud.table} == EXPECTED


def test_a_command_cannot_be_in_the_table_twice(cloud: SmallCloud) -> None:
    [first, *_] = cloud.table
    with pytest.raises(ValueError, match="twice"):
        CommandTable([first, first])


@pytest_twisted.ensureDeferred
async def test_no_command_ignores_a_parameter(cloud: SmallCloud) -> None:
    for command in cloud.table:
        if command.name in ("login", "logout"):
            continue
        needed = {one.name: one.choices[0] if one.choices else NOWHERE for one in command.parameters}
        error = await refusal(cloud, command.name, **needed, nosuchparameter="1")
        assert "nosuchparameter" in error.message, command.name


def test_no_command_declares_what_every_client_adds(cloud: SmallCloud) -> None:
    for command in cloud.table:
        names = [parameter.name.lower() for parameter in command.all_parameters]
        assert len(names) == len(set(names)), command.name
        assert not ADDED_BY_CLIENTS & set(names), command.name


@pytest_twisted.ensureDeferred
async def test_list_apis_lists_what_the_caller_can_use(cloud: SmallCloud) -> None:
    for_admin = await cloud.call("listApis")
    for_user = await cloud.call("listApis", cloud.user)
    assert {api["name"] for api in for_admin["api"]} == EXPECTED
    assert {api["name"] for api in for_user["api"]} == EXPECTED - ADMINISTRATORS


@pytest_twisted.ensureDeferred
async def test_list_apis_describes_parameters_and_answers(cloud: SmallCloud) -> None:
    [api] = (await cloud.call("listApis", name="createConsoleEndpoint"))["api"]
    assert [(param["name"], param["required"]) for param in api["params"]] == [
        ("virtualmachineid", True),
        ("token", False),
        ("takeover", False),
        ("keyboard", False),
        ("viewonly", False),
        ("clipboardtoguest", False),
        ("clipboardfromguest", False),
        ("kind", False),
        ("clientaddress", False),
    ]
    [websocket] = [key for key in api["response"] if key["name"] == "websocket"]
    assert [key["name"] for key in websocket["response"]] == ["token", "host", "port", "path", "extra"]
    [templates] = (await cloud.call("listApis", name="listTemplates"))["api"]
    assert {"downloaddetails", "crossZones"} <= {key["name"] for key in templates["response"]}
    assert {"keyword", "page", "pagesize"} <= {param["name"] for param in templates["params"]}
    assert all(key["description"] for key in templates["response"])


@pytest_twisted.ensureDeferred
async def test_an_empty_list_is_an_empty_object(cloud: SmallCloud) -> None:
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
async def test_pages_keep_the_count_of_all(cloud: SmallCloud) -> None:
    for number in range(5):
        cloud.add_template(name=f"t{number}")
    page = await cloud.call("listTemplates", templatefilter="all", page=2, pagesize=2)
    assert (page["count"], [row["name"] for row in page["template"]]) == (5, ["t2", "t3"])
    beyond = await cloud.call("listTemplates", templatefilter="all", page=9, pagesize=2)
    assert beyond == {"count": 5, "template": []}
    everything = await cloud.call("listTemplates", templatefilter="all", pagesize=-1)
    assert len(everything["template"]) == 5


@pytest_twisted.ensureDeferred
async def test_zones_offerings_and_capabilities_are_listed(cloud: SmallCloud) -> None:
    [zone] = (await cloud.call("listZones"))["zone"]
    assert (zone["name"], zone["dns1"], zone["internaldns1"]) == ("zone1", "203.0.113.10", "10.11.0.2")
    assert await cloud.call("listZones", name="other") == {}
    offerings = (await cloud.call("listServiceOfferings", keyword="MED"))["serviceoffering"]
    assert [row["name"] for row in offerings] == ["medium"]
    assert (await cloud.call("listCapabilities"))["capability"]["cloudstackversion"].startswith("4.22")


@pytest_twisted.ensureDeferred
async def test_capabilities_are_those_of_the_settings_and_the_caller(cloud: SmallCloud) -> None:
    keys = ("allowuserviewdestroyedvm", "allowuserexpungerecovervm", "apilimitinterval", "apilimitmax")

    async def of(caller: Principal) -> list[Any]:
        found = (await cloud.call("listCapabilities", caller))["capability"]
        return [found.get(key) for key in keys]

    assert await of(cloud.user) == [False, False, None, None]
    assert await of(cloud.admin) == [True, True, None, None]
    for name, value in (
        ("allow.user.view.destroyed.vm", "true"),
        ("allow.user.expunge.recover.vm", "true"),
        ("api.throttling.enabled", "true"),
        ("api.throttling.max", "7"),
    ):
        await cloud.call("updateConfiguration", name=name, value=value)
    assert await of(cloud.user) == [True, True, 1, 7]


@pytest_twisted.ensureDeferred
async def test_agents_of_system_vms_are_listed_as_hosts(cloud: SmallCloud) -> None:
    rows = (await cloud.call("listHosts"))["host"]
    assert [(row["name"], row["type"], row["state"]) for row in rows] == [
        ("host1", "Routing", "Up"),
        ("s-1-VM", "SecondaryStorageVM", "Up"),
        ("v-2-VM", "ConsoleProxy", "Up"),
    ]
    assert (await cloud.call("listHosts", type="consoleproxy"))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_a_system_vm_has_the_keys_that_the_smoke_tests_read(cloud: SmallCloud) -> None:
    [vm] = (await cloud.call("listSystemVms", systemvmtype="consoleproxy"))["systemvm"]
    assert {
        key: vm[key]
        for key in ("name", "state", "agentstate", "linklocalip", "privateip", "publicip", "gateway", "dns1")
    } == {
        "name": "v-2-VM",
        "state": "Running",
        "agentstate": "Up",
        "linklocalip": "169.254.0.2",
        "privateip": "10.11.0.102",
        "publicip": "203.0.113.102",
        "gateway": "203.0.113.1",
        "dns1": "203.0.113.10",
    }
    assert {"serviceofferingid", "serviceofferingname", "activeviewersessions", "version"} <= set(vm)
    assert "reason" not in vm


@pytest_twisted.ensureDeferred
async def test_system_vm_that_is_not_up_has_a_reason(cloud: SmallCloud) -> None:
    cloud.update_instance(
        cloud.ssvm, agent_state=AgentState.ALERT, agent_reason="has not answered for 60 s", agent_hint="look"
    )
    cloud.update_instance(cloud.cpvm, state=InstanceState.STOPPED, reason="could not be started", hint="h")
    ssvm, cpvm = (await cloud.call("listSystemVms"))["systemvm"]
    assert (ssvm["reason"], ssvm["hint"]) == ("Its agent has not answered for 60 s", "look")
    assert (cpvm["reason"], cpvm["hint"]) == ("could not be started", "h")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("command", "expected", "parameters"),
    [
        ("startSystemVm", ("start", False), {}),
        ("stopSystemVm", ("stop", True), {"forced": "true"}),
        ("rebootSystemVm", ("reboot", True), {"forced": "true"}),
    ],
)
async def test_operations_on_system_vms_are_jobs(
    cloud: SmallCloud, command: str, expected: tuple[str, bool], parameters: dict[str, str]
) -> None:
    job = await cloud.job(command, id=cloud.ssvm.uuid, **parameters)
    assert job.result["systemvm"]["name"] == "s-1-VM"
    assert cloud.system_vms.calls == [(expected[0], cloud.ssvm.uuid, expected[1])]


@pytest_twisted.ensureDeferred
async def test_result_of_a_destroy_job_is_the_system_vm(cloud: SmallCloud) -> None:
    job = await cloud.job("destroySystemVm", id=cloud.ssvm.uuid)
    assert job.result["systemvm"]["state"] == "Expunging"
    assert [vm["name"] for vm in (await cloud.call("listSystemVms"))["systemvm"]] == ["v-2-VM"]


@pytest_twisted.ensureDeferred
async def test_users_vm_is_not_a_system_vm(cloud: SmallCloud) -> None:
    user_vm = cloud.add_system_vm(InstanceType.USER)
    with pytest.raises(ApiError, match="is not a system VM"):
        await cloud.call("stopSystemVm", id=user_vm.uuid)


@pytest_twisted.ensureDeferred
async def test_job_is_visible_to_its_owner_only(cloud: SmallCloud) -> None:
    job = await cloud.job("stopSystemVm", id=cloud.ssvm.uuid)
    reply = await cloud.call("queryAsyncJobResult", jobid=job.uuid)
    assert (reply["jobstatus"], reply["jobresultcode"], reply["jobresulttype"]) == (1, 0, "object")
    assert (reply["cmd"], reply["account"], reply["jobinstanceid"]) == (
        "stopSystemVm",
        "admin",
        cloud.ssvm.uuid,
    )
    with pytest.raises(LookupError):
        await cloud.call("queryAsyncJobResult", cloud.user, jobid=job.uuid)
    assert await cloud.call("listAsyncJobs", cloud.user) == {}


@pytest_twisted.ensureDeferred
async def test_failed_job_has_its_error(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    cloud.hypervisor.fails_with = HypervisorError("no memory left", "stop another VM")
    small = (await cloud.call("listServiceOfferings", name="small"))["serviceoffering"][0]["id"]
    job = await cloud.job(
        "deployVirtualMachine", zoneid=cloud.zone.uuid, templateid=template.uuid, serviceofferingid=small
    )
    reply = await cloud.call("queryAsyncJobResult", jobid=job.uuid)
    assert (reply["jobstatus"], reply["jobresultcode"]) == (2, 534)
    assert reply["jobresult"] == {"errorcode": 534, "errortext": "no memory left", "hint": "stop another VM"}


def test_commands_are_immutable(cloud: SmallCloud) -> None:
    command: Command = cloud.table.find("listZones")
    with pytest.raises(AttributeError):
        command.name = "other"  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_diagnostics_are_jobs_with_a_string_for_an_exit_code(cloud: SmallCloud) -> None:
    """SMOKE/test_diagnostics.py compares exitcode with '0'."""
    job = await cloud.job(
        "runDiagnostics", targetid=cloud.cpvm.uuid, ipaddress="203.0.113.1", type="ARPING", params="-I eth2"
    )
    assert job.result == {"diagnostics": {"stdout": "4 packets transmitted", "stderr": "", "exitcode": "0"}}
    assert cloud.diagnostics.calls == [(cloud.cpvm.uuid, "arping", "203.0.113.1", "-I eth2")]
    job = await cloud.job(
        "getDiagnosticsData", targetid=cloud.ssvm.uuid, files="iptables, /var/log/cloud.log"
    )
    assert job.result["diagnostics"]["url"].endswith("/diagnostics/abc/data.zip")
    assert cloud.diagnostics.calls[-1] == (cloud.ssvm.uuid, "iptables", "/var/log/cloud.log")


@pytest.mark.parametrize(
    "wrong",
    [{"ipaddress": "-f"}, {"ipaddress": "a;b"}, {"type": "nmap"}, {"params": "$(id)"}, {"params": "-c 1|id"}],
)
@pytest_twisted.ensureDeferred
async def test_invalid_diagnosis_is_rejected_before_a_guest_is_called(
    cloud: SmallCloud, wrong: dict[str, str]
) -> None:
    given = {"targetid": cloud.cpvm.uuid, "ipaddress": "192.0.2.2", "type": "ping", **wrong}
    with pytest.raises(ApiError) as refused:
        await cloud.call("runDiagnostics", **given)
    assert refused.value.code is ErrorCode.PARAMETER
    assert cloud.diagnostics.calls == []
